//! The one form of a manifest that depends on its meaning alone (P-MAN-10): defaults applied, keys sorted, lists
//! without an order of their own sorted by name or path.

use serde_json::Value as Json;
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table, Value};

use super::Manifest;
use crate::digest::Digest;

impl Manifest {
    pub fn canonical_json(&self) -> Vec<u8> {
        self.canonical().to_string().into_bytes()
    }

    /// `manifest_hash`: of the canonical JSON.
    pub fn hash(&self) -> Digest {
        Digest::of(&self.canonical_json())
    }

    /// What `plfm manifest fmt` writes; it parses to the same manifest.
    pub fn to_toml(&self) -> String {
        let Json::Object(root) = self.canonical() else { unreachable!("a struct becomes an object") };
        DocumentMut::from(table(&root)).to_string()
    }

    fn canonical(&self) -> Json {
        let mut json = serde_json::to_value(self).expect("a manifest has string keys and finite numbers");
        // Whether an object keeps its keys sorted is a feature that any crate of the build may switch.
        json.sort_all_objects();
        json
    }
}

fn table(object: &serde_json::Map<String, Json>) -> Table {
    let mut table = object.iter().map(|(key, json)| (key, item(json))).collect::<Table>();
    table.set_implicit(table.iter().all(|(_, item)| !item.is_value()) && !table.is_empty());
    table
}

fn item(json: &Json) -> Item {
    match json {
        Json::Object(object) => Item::Table(table(object)),
        Json::Array(list) if list.iter().all(Json::is_object) => {
            Item::ArrayOfTables(list.iter().filter_map(Json::as_object).map(table).collect::<ArrayOfTables>())
        }
        other => Item::Value(value(other)),
    }
}

fn value(json: &Json) -> Value {
    match json {
        Json::String(text) => text.as_str().into(),
        Json::Bool(flag) => (*flag).into(),
        Json::Number(number) => number.as_i64().map_or_else(|| number.as_f64().unwrap_or_default().into(), Value::from),
        Json::Array(list) => list.iter().map(value).collect::<Array>().into(),
        Json::Null | Json::Object(_) => {
            unreachable!("absent fields are left out, and no list mixes tables with values")
        }
    }
}
