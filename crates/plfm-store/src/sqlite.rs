//! The embedded log: one SQLite file, write-ahead log, `synchronous = FULL` (an answered append survives the power cut).

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use plfm_core::digest::Digest;
use plfm_core::event::{Actor, Envelope, Event};
use plfm_core::ids::{OrgId, RequestId};
use plfm_core::units::{Seq, Timestamp};
use rusqlite::{Connection, ErrorCode, OptionalExtension, Row, Statement, ToSql, params};

use crate::{AUDIT_PER_IDENTITY_MAX, AuditRecord, Store, StoreError, first_of};

/// Kept in `user_version`.
const FORMAT: u32 = 1;

/// A page is written whole with each append that touches it: larger ones make fewer system calls, smaller ones less to write. The size
/// counts for a new file alone.
const PRAGMAS: &str = "
    PRAGMA page_size = 8192; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000;
";

const SCHEMA: &str = "
    CREATE TABLE events (
        seq INTEGER PRIMARY KEY, at INTEGER NOT NULL, org TEXT, kind TEXT NOT NULL, version INTEGER NOT NULL,
        actor TEXT NOT NULL, request TEXT NOT NULL, cause INTEGER, body TEXT NOT NULL
    ) STRICT;
    CREATE TRIGGER events_stay BEFORE UPDATE ON events BEGIN SELECT raise(ABORT, 'events are never edited'); END;
    CREATE TRIGGER events_remain BEFORE DELETE ON events BEGIN SELECT raise(ABORT, 'events are never deleted'); END;
    CREATE TABLE blobs (hash TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;
    CREATE TABLE audit (
        id INTEGER PRIMARY KEY, at INTEGER NOT NULL, identity TEXT NOT NULL, action TEXT NOT NULL, code TEXT NOT NULL,
        request TEXT NOT NULL
    ) STRICT;
    CREATE INDEX audit_by_identity ON audit (identity, id);
";

/// So many rows go into one statement: a good part of an insert's price is paid once for each.
const ROWS: [usize; 3] = [32, 8, 1];

#[derive(Debug)]
pub struct SqliteStore(Mutex<Connection>);

impl SqliteStore {
    /// Opens the log in this file, or makes an empty one.
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connection = Connection::open(path).map_err(failed("open"))?;
        connection.execute_batch(PRAGMAS).map_err(failed("open"))?;
        let store = Self(Mutex::new(connection));
        store.migrate()?;
        store.verify()?;
        Ok(store)
    }

    fn migrate(&self) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(failed("migrate"))?;
        let found: u32 =
            transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(failed("migrate"))?;
        match found {
            0 => {
                transaction.execute_batch(SCHEMA).map_err(failed("migrate"))?;
                transaction.pragma_update(None, "user_version", FORMAT).map_err(failed("migrate"))?;
            }
            FORMAT => {}
            _ => return Err(StoreError::TooNew { found, known: FORMAT }),
        }
        transaction.commit().map_err(failed("migrate"))
    }

    /// A damaged page is better met now than in the middle of a fold; a gap means that something was lost.
    fn verify(&self) -> Result<(), StoreError> {
        let connection = self.connection();
        let verdict: String =
            connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed("verify"))?;
        if verdict != "ok" {
            // The line before names the database, which is the only one.
            return Err(StoreError::Damaged(verdict.lines().last().unwrap_or_default().to_owned()));
        }
        let (count, head): (u64, u64) = connection
            .query_row("SELECT count(*), coalesce(max(seq), 0) FROM events", [], |row| Ok((row.get(0)?, row.get(1)?)))
            .map_err(failed("verify"))?;
        if count == head {
            return Ok(());
        }
        Err(StoreError::Damaged(format!("it holds {count} events, the last has seq {head}")))
    }

    /// SQLite rolls an unfinished transaction back by itself, so a panic elsewhere leaves nothing half done.
    fn connection(&self) -> MutexGuard<'_, Connection> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store for SqliteStore {
    fn head(&self) -> Result<Seq, StoreError> {
        head(&self.connection())
    }

    fn append(&self, batch: &[Envelope]) -> Result<(), StoreError> {
        let Some(first) = first_of(batch)? else { return Ok(()) };
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(failed("append to"))?;
        let head = head(&transaction)?;
        if first != head.next() {
            return Err(StoreError::Conflict { head, first });
        }
        insert(&transaction, batch)?;
        transaction.commit().map_err(failed("append to"))
    }

    fn read(&self, after: Seq, limit: usize) -> Result<Vec<Envelope>, StoreError> {
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached(
                "SELECT seq, at, org, kind, actor, request, cause, body FROM events WHERE seq > ? ORDER BY seq LIMIT ?",
            )
            .map_err(failed("read"))?;
        let rows = statement
            .query_map(params![after.0, i64::try_from(limit).unwrap_or(i64::MAX)], |row| Ok(envelope(row)))
            .map_err(failed("read"))?;
        rows.map(|row| row.map_err(failed("read"))?).collect()
    }

    fn put_blob(&self, body: &[u8]) -> Result<Digest, StoreError> {
        let name = Digest::of(body);
        self.connection()
            .execute("INSERT OR IGNORE INTO blobs VALUES (?, ?)", params![name.to_string(), body])
            .map_err(failed("store a blob beside"))?;
        Ok(name)
    }

    fn blob(&self, name: Digest) -> Result<Option<Vec<u8>>, StoreError> {
        self.connection()
            .query_row("SELECT body FROM blobs WHERE hash = ?", [name.to_string()], |row| row.get(0))
            .optional()
            .map_err(failed("read a blob beside"))
    }

    fn audit(&self, record: &AuditRecord) -> Result<(), StoreError> {
        let mut connection = self.connection();
        let transaction = connection.transaction().map_err(failed("audit in"))?;
        let AuditRecord { at, identity, action, code, request } = record;
        transaction
            .execute(
                "INSERT INTO audit (at, identity, action, code, request) VALUES (?, ?, ?, ?, ?)",
                params![at.0, identity, action, code, request.to_string()],
            )
            .map_err(failed("audit in"))?;
        transaction
            .execute(
                "DELETE FROM audit WHERE identity = ?1 AND id <=
                    (SELECT id FROM audit WHERE identity = ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2)",
                params![identity, AUDIT_PER_IDENTITY_MAX],
            )
            .map_err(failed("audit in"))?;
        transaction.commit().map_err(failed("audit in"))
    }

    fn audit_trail(&self, limit: usize) -> Result<Vec<AuditRecord>, StoreError> {
        let connection = self.connection();
        let mut statement = connection
            .prepare_cached("SELECT at, identity, action, code, request FROM audit ORDER BY id DESC LIMIT ?")
            .map_err(failed("read the audit of"))?;
        let rows = statement.query_map([limit], |row| Ok(audit_record(row))).map_err(failed("read the audit of"))?;
        rows.map(|row| row.map_err(failed("read the audit of"))?).collect()
    }
}

fn head(connection: &Connection) -> Result<Seq, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT coalesce(max(seq), 0) FROM events").map_err(failed("read"))?;
    statement.query_row([], |row| row.get(0)).map(Seq).map_err(failed("read"))
}

fn insert(connection: &Connection, batch: &[Envelope]) -> Result<(), StoreError> {
    ROWS.iter().try_fold(batch, |batch, rows| {
        let (now, later) = batch.split_at(batch.len() / rows * rows);
        insert_by(*rows, connection, now).map(|()| later)
    })?;
    Ok(())
}

fn insert_by(rows: usize, connection: &Connection, batch: &[Envelope]) -> Result<(), StoreError> {
    if batch.is_empty() {
        return Ok(());
    }
    let values = vec!["(?, ?, ?, ?, ?, ?, ?, ?, ?)"; rows].join(", ");
    let sql = format!("INSERT INTO events VALUES {values}");
    let mut statement = connection.prepare_cached(&sql).map_err(failed("append to"))?;
    let mut json = Vec::new();
    for batch in batch.chunks(rows) {
        for (row, envelope) in batch.iter().enumerate() {
            bind(&mut statement, row, envelope, &mut json)?;
        }
        statement.raw_execute().map_err(failed("append to"))?;
    }
    Ok(())
}

/// `json` is room that lasts for many rows.
fn bind(statement: &mut Statement<'_>, row: usize, envelope: &Envelope, json: &mut Vec<u8>) -> Result<(), StoreError> {
    let Envelope { seq, at, org, actor, request, cause, event } = envelope;
    let (kind, version) = (event.kind(), event.version());
    json.clear();
    serde_json::to_writer(&mut *json, event).map_err(damaged)?;
    let (org, actor) = (org.map(|org| org.to_string()), to_json(actor)?);
    let (request, cause, body) = (request.to_string(), cause.map(|seq| seq.0), body(kind, json)?);
    let values: [&dyn ToSql; 9] = [&seq.0, &at.0, &org, &kind, &version, &actor, &request, &cause, &body];
    let first = row * values.len() + 1;
    let mut values = values.into_iter().enumerate();
    values
        .try_for_each(|(column, value)| statement.raw_bind_parameter(first + column, value))
        .map_err(failed("append to"))
}

/// What stands beside the kind in an event's JSON. Cut out of the text: a tree of values took a third of an append.
fn body<'a>(kind: &str, event: &'a [u8]) -> Result<&'a str, StoreError> {
    let event = str::from_utf8(event).map_err(damaged)?;
    let body = event.strip_prefix(r#"{"kind":""#).and_then(|rest| rest.strip_prefix(kind));
    let body = body.and_then(|rest| rest.strip_prefix(r#"","body":"#)).and_then(|rest| rest.strip_suffix('}'));
    body.ok_or_else(|| damaged(format!("an event `{kind}` has no body")))
}

fn to_json(value: impl serde::Serialize) -> Result<String, StoreError> {
    serde_json::to_string(&value).map_err(damaged)
}

/// What is damaged is found by its number.
fn envelope(row: &Row<'_>) -> Result<Envelope, StoreError> {
    let seq = Seq(row.get(0).map_err(failed("read"))?);
    numbered(seq, row).map_err(|error| match error {
        StoreError::Damaged(why) => StoreError::Damaged(format!("event {seq}: {why}")),
        error => error,
    })
}

fn numbered(seq: Seq, row: &Row<'_>) -> Result<Envelope, StoreError> {
    let text = |column| row.get::<_, String>(column).map_err(failed("read"));
    let body: serde_json::Value = parsed(&text(7)?)?;
    let event: Event =
        serde_json::from_value(serde_json::json!({ "kind": text(3)?, "body": body })).map_err(damaged)?;
    let org: Option<String> = row.get(2).map_err(failed("read"))?;
    Ok(Envelope {
        seq,
        at: Timestamp(row.get(1).map_err(failed("read"))?),
        org: org.map(|org| org.parse::<OrgId>().map_err(damaged)).transpose()?,
        actor: parsed::<Actor>(&text(4)?)?,
        request: text(5)?.parse::<RequestId>().map_err(damaged)?,
        cause: row.get::<_, Option<u64>>(6).map_err(failed("read"))?.map(Seq),
        event,
    })
}

fn audit_record(row: &Row<'_>) -> Result<AuditRecord, StoreError> {
    let text = |column| row.get::<_, String>(column).map_err(failed("read the audit of"));
    Ok(AuditRecord {
        at: Timestamp(row.get(0).map_err(failed("read the audit of"))?),
        identity: text(1)?,
        action: text(2)?,
        code: text(3)?,
        request: text(4)?.parse().map_err(damaged)?,
    })
}

fn parsed<T: serde::de::DeserializeOwned>(json: &str) -> Result<T, StoreError> {
    serde_json::from_str(json).map_err(damaged)
}

fn damaged(error: impl std::fmt::Display) -> StoreError {
    StoreError::Damaged(error.to_string())
}

fn failed(action: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(source.to_string()),
        Some(ErrorCode::DiskFull) => StoreError::DiskFull,
        _ => StoreError::Sqlite { action, source },
    }
}

#[cfg(test)]
mod tests;
