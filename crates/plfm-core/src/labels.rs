//! What operators say of nodes, `zone=a`, and what orgs and environments ask of theirs (P-SCH-20).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// Of one node, or asked at once.
pub const LABELS_MAX: usize = 32;
pub const LABEL_BYTES_MAX: usize = 63;

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Labels(pub BTreeMap<String, String>);

impl Labels {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether it has all that is asked, with these very values.
    pub fn have(&self, asked: &Self) -> bool {
        asked.0.iter().all(|(key, value)| self.0.get(key) == Some(value))
    }

    /// Without what is no label, and no more than there may be.
    pub fn bounded(self) -> Self {
        Self(self.0.into_iter().filter(|(key, value)| is_label(key, value)).take(LABELS_MAX).collect())
    }

    pub fn are_sound(&self) -> bool {
        self.0.len() <= LABELS_MAX && self.0.iter().all(|(key, value)| is_label(key, value))
    }
}

/// `zone=a`.
pub fn label(text: &str) -> Option<(String, String)> {
    let (key, value) = text.split_once('=')?;
    is_label(key, value).then(|| (key.to_owned(), value.to_owned()))
}

fn is_label(key: &str, value: &str) -> bool {
    let sound = |text: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        !text.is_empty() && text.len() <= LABEL_BYTES_MAX && text.bytes().all(inner)
    };
    sound(key) && sound(value)
}

impl fmt::Display for Labels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (key, value)) in self.0.iter().enumerate() {
            write!(f, "{}{key}={value}", if number > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_short_and_plain() {
        assert_eq!(label("zone=eu-1/a"), Some(("zone".to_owned(), "eu-1/a".to_owned())));
        let long = format!("zone={}", "a".repeat(LABEL_BYTES_MAX + 1));
        for text in ["zone", "=a", "zone=", "zo ne=a", "zone=a=b", "zone=é", &long] {
            assert_eq!(label(text), None, "{text}");
        }
    }

    #[test]
    fn what_a_node_says_is_bounded() {
        let many = (0..100).map(|number| (format!("k{number}"), "v".to_owned()));
        let told = Labels(many.chain([("no label".to_owned(), "x".to_owned())]).collect());
        let bounded = told.clone().bounded();
        assert!(!told.are_sound() && bounded.are_sound() && bounded.0.len() == LABELS_MAX);
    }

    #[test]
    fn all_that_is_asked() {
        let labels = |pairs: &[&str]| Labels(pairs.iter().filter_map(|pair| label(pair)).collect());
        let node = labels(&["zone=a", "disk=ssd"]);
        for (asked, holds) in
            [(&[][..], true), (&["zone=a"], true), (&["zone=b"], false), (&["zone=a", "gpu=yes"], false)]
        {
            assert_eq!(node.have(&labels(asked)), holds, "{asked:?}");
        }
        assert_eq!(node.to_string(), "disk=ssd, zone=a");
    }
}
