use std::collections::BTreeSet;

use super::*;

const CANONICAL: &str = "app_01ARZ3NDEKTSV4RRFFQ69G5FAV";

#[test]
fn only_the_canonical_form_parses() {
    let id: AppId = CANONICAL.parse().unwrap();
    assert_eq!(id.to_string(), CANONICAL);

    for (text, expected) in [
        ("", IdError::Empty),
        ("app01ARZ3NDEKTSV4RRFFQ69G5FAV", IdError::NoSeparator("app01ARZ3NDEKTSV4RRFFQ69G5FAV".into())),
        ("env_01ARZ3NDEKTSV4RRFFQ69G5FAV", {
            IdError::WrongPrefix { expected: "app", found: "env_01ARZ3NDEKTSV4RRFFQ69G5FAV".into() }
        }),
        ("app_01ARZ3NDEKTSV4RRFFQ69G5FA", IdError::BadUlid("app_01ARZ3NDEKTSV4RRFFQ69G5FA".into())),
        ("app_01arz3ndektsv4rrffq69g5fav", IdError::BadUlid("app_01arz3ndektsv4rrffq69g5fav".into())),
        ("app__01ARZ3NDEKTSV4RRFFQ69G5FAV", IdError::BadUlid("app__01ARZ3NDEKTSV4RRFFQ69G5FAV".into())),
    ] {
        assert_eq!(text.parse::<AppId>(), Err(expected), "{text:?}");
    }
}

#[test]
fn json_is_the_printed_form() {
    let id: AppId = CANONICAL.parse().unwrap();
    let json = serde_json::to_string(&id).unwrap();
    assert_eq!(json, format!("\"{CANONICAL}\""));
    assert_eq!(serde_json::from_str::<AppId>(&json).unwrap(), id);
    assert!(serde_json::from_str::<EnvId>(&json).is_err());
}

#[test]
fn prefixes_differ() {
    let distinct: BTreeSet<_> = PREFIXES.iter().collect();
    assert_eq!(distinct.len(), PREFIXES.len());
}
