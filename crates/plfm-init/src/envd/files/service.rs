//! `filesystem.Filesystem`, but for its watchers.

use std::sync::Arc;

use connectrpc::{RequestContext, Response, ServiceRequest, ServiceResult};
use plfm_api::envd::filesystem::{self as fs, Filesystem};

use super::{FileError, account, acts, there};
use crate::daemon::Daemon;
use crate::envd::start::{acting_user, directory};
use crate::users::Account;

pub struct Files(pub Arc<Daemon>);

impl Files {
    async fn account(&self, context: &RequestContext) -> Result<Account, FileError> {
        account(&self.0, acting_user(context)).await
    }
}

/// W-PATH-1.
pub fn resolved(path: &str, account: &Account) -> Result<String, FileError> {
    if path.contains('\0') {
        return Err(FileError::Malformed("the path holds a NUL byte".to_owned()));
    }
    Ok(directory(Some(path), &account.home, &account.home))
}

// The trait allows cheaper answers than whole messages; none is needed here.
#[allow(refining_impl_trait)]
impl Filesystem for Files {
    async fn stat(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, fs::StatRequest>,
    ) -> ServiceResult<fs::StatResponse> {
        let path = resolved(request.path, &self.account(&context).await?)?;
        let entry = there(&self.0, move || acts::stat(&path)).await?;
        Response::ok(fs::StatResponse { entry: entry.into(), ..Default::default() })
    }

    async fn make_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, fs::MakeDirRequest>,
    ) -> ServiceResult<fs::MakeDirResponse> {
        let account = self.account(&context).await?;
        let path = resolved(request.path, &account)?;
        let entry = there(&self.0, move || acts::make_dir(&path, &account)).await?;
        Response::ok(fs::MakeDirResponse { entry: entry.into(), ..Default::default() })
    }

    async fn r#move(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, fs::MoveRequest>,
    ) -> ServiceResult<fs::MoveResponse> {
        let account = self.account(&context).await?;
        let source = resolved(request.source, &account)?;
        let destination = resolved(request.destination, &account)?;
        let entry = there(&self.0, move || acts::rename(&source, &destination, &account)).await?;
        Response::ok(fs::MoveResponse { entry: entry.into(), ..Default::default() })
    }

    async fn list_dir(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, fs::ListDirRequest>,
    ) -> ServiceResult<fs::ListDirResponse> {
        let (path, depth) = (resolved(request.path, &self.account(&context).await?)?, request.depth);
        let entries = there(&self.0, move || acts::list(&path, depth)).await?;
        Response::ok(fs::ListDirResponse { entries, ..Default::default() })
    }

    async fn remove(
        &self,
        context: RequestContext,
        request: ServiceRequest<'_, fs::RemoveRequest>,
    ) -> ServiceResult<fs::RemoveResponse> {
        let path = resolved(request.path, &self.account(&context).await?)?;
        there(&self.0, move || acts::remove(&path)).await?;
        Response::ok(fs::RemoveResponse::default())
    }
}
