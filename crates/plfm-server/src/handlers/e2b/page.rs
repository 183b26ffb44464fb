//! One page of a list: what is asked for, in which order, and where the next page begins (W-LIST).

use std::cmp::Reverse;

use plfm_api::views::{SandboxState, SandboxView};
use plfm_core::units::Timestamp;

use crate::ApiError;

const LIMIT_MAX: usize = 100;

#[derive(Debug, Default, PartialEq)]
pub struct Wanted {
    limit: usize,
    /// All of these.
    metadata: Vec<(String, String)>,
    /// Any of these, or all.
    states: Vec<String>,
    oldest_first: bool,
    template: Option<String>,
    /// The last one that was shown.
    after: Option<Key>,
}

/// The order of the list: by age, of equals by name.
type Key = (Timestamp, String);

pub struct Page {
    pub items: Vec<SandboxView>,
    /// Of those that run, on all pages.
    pub total: usize,
    pub next: Option<String>,
}

impl Wanted {
    /// From the pairs of a query; what is not known is ignored.
    pub fn read(query: &[(String, String)]) -> Result<Self, ApiError> {
        let mut wanted = Self { limit: LIMIT_MAX, ..Self::default() };
        for (key, value) in query.iter().map(|(key, value)| (key.as_str(), value.as_str())) {
            match key {
                "limit" => {
                    let limit = value.parse().ok().filter(|limit| (1..=LIMIT_MAX).contains(limit));
                    wanted.limit = limit.ok_or_else(|| invalid("`limit` is 1 to 100"))?;
                }
                "metadata" => wanted.metadata.extend(pairs(value)),
                "state" => wanted.states.extend(words(value)),
                "startedAfter" => return Err(invalid("this server cannot do `startedAfter` yet")),
                "order" => wanted.oldest_first = value == "asc",
                "template" | "templateID" => wanted.template = Some(value.to_owned()),
                "nextToken" => {
                    wanted.after = Some(cursor(value).ok_or_else(|| invalid("`nextToken` is none of ours"))?)
                }
                _ => {}
            }
        }
        Ok(wanted)
    }

    /// The older call knows no pages.
    pub fn unlimited(self) -> Self {
        Self { limit: usize::MAX, ..self }
    }

    pub fn page(&self, all: Vec<SandboxView>) -> Page {
        let mut all: Vec<_> = all.into_iter().filter(|view| self.asks_for(view)).collect();
        let total = all.iter().filter(|view| view.state == SandboxState::Running).count();
        if self.oldest_first {
            all.sort_by_key(key);
        } else {
            all.sort_by_key(|view| Reverse(key(view)));
        }
        let comes_later = |view: &SandboxView| match &self.after {
            None => true,
            Some(after) if self.oldest_first => key(view) > *after,
            Some(after) => key(view) < *after,
        };
        let mut rest = all.into_iter().filter(comes_later);
        let items: Vec<_> = rest.by_ref().take(self.limit).collect();
        let next = rest.next().and_then(|_| items.last()).map(|last| format!("{}-{}", last.created_at.0, last.name));
        Page { items, total, next }
    }

    fn asks_for(&self, view: &SandboxView) -> bool {
        let template =
            self.template.as_ref().is_none_or(|it| *it == view.template || *it == view.template_id.to_string());
        let metadata = self.metadata.iter().all(|(key, value)| view.metadata.get(key) == Some(value));
        let state = self.states.is_empty() || self.states.iter().any(|state| state == view.state.code());
        state && template && metadata
    }
}

fn key(view: &SandboxView) -> Key {
    (view.created_at, view.name.clone())
}

fn cursor(token: &str) -> Option<Key> {
    let (at, name) = token.split_once('-')?;
    Some((Timestamp(at.parse().ok()?), name.to_owned()))
}

fn words(list: &str) -> impl Iterator<Item = String> + '_ {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned)
}

/// The value is a query string itself, whose keys and values SDKs encode once more than others (W-LIST-3). What was encoded once
/// only has no percent sign left to decode.
fn pairs(text: &str) -> Vec<(String, String)> {
    let once = percent_encoding::percent_decode_str(text).decode_utf8_lossy();
    form_urlencoded::parse(once.as_bytes()).into_owned().collect()
}

fn invalid(detail: &str) -> ApiError {
    ApiError::invalid(detail, "ask without it")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(query: &[(&str, &str)]) -> Result<Wanted, ApiError> {
        Wanted::read(&query.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect::<Vec<_>>())
    }

    #[test]
    fn metadata_is_read_however_often_it_was_encoded() {
        let expected = vec![("a b".to_owned(), "x&y".to_owned())];
        // After the query was decoded once, as the SDKs and as people write it.
        assert_eq!(read(&[("metadata", "a%2520b=x%2526y")]).unwrap().metadata, expected);
        assert_eq!(pairs("user=ada&team=red"), [("user", "ada"), ("team", "red")].map(|(k, v)| (k.into(), v.into())));
    }

    #[test]
    fn what_is_out_of_bounds_is_refused() {
        for (key, value) in [("limit", "0"), ("limit", "101"), ("limit", "x"), ("nextToken", "garbage")] {
            assert_eq!(read(&[(key, value)]).unwrap_err().0.status, 400, "{key}={value}");
        }
    }

    #[test]
    fn states_come_as_one_list_or_as_many() {
        for (query, expected) in [
            (&[][..], &[][..]),
            (&[("state", "running,paused")], &["running", "paused"]),
            (&[("state", " paused,")], &["paused"]),
            (&[("state", "paused"), ("state", "running")], &["paused", "running"]),
        ] {
            assert_eq!(read(query).unwrap().states, expected, "{query:?}");
        }
    }
}
