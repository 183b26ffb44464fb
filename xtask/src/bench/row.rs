//! From raw samples to the row that is printed.

use anyhow::ensure;
use serde::{Deserialize, Serialize};

/// What a bench says.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Samples {
    pub name: String,
    pub unit: String,
    pub better: Better,
    pub samples: Vec<f64>,
    /// What stands beside it, measured in the same run.
    #[serde(default)]
    pub peer: Option<String>,
    #[serde(default)]
    pub peer_samples: Vec<f64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Better {
    Lower,
    Higher,
}

/// What is printed; the names are those of the design.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    pub name: String,
    /// The median.
    pub value: f64,
    pub unit: String,
    pub better: Better,
    pub peer: Option<String>,
    pub peer_value: Option<f64>,
    /// Above 1 ours is better, whichever way is better.
    pub ratio: Option<f64>,
    pub n: usize,
    /// So many of a hundred samples are this good or better.
    pub p50: f64,
    pub p95: f64,
    pub p99: f64,
    pub machine: String,
}

impl Row {
    pub fn of(samples: &Samples, machine: &str) -> anyhow::Result<Self> {
        let Samples { name, unit, better, peer, .. } = samples.clone();
        let (ours, theirs) = (best_first(&samples.samples, better), best_first(&samples.peer_samples, better));
        ensure!(!ours.is_empty(), "{name} has no samples");
        let value = percentile(&ours, 50);
        let peer_value = (!theirs.is_empty()).then(|| percentile(&theirs, 50));
        let ratio = peer_value.map(|peer| match better {
            Better::Lower => rounded(peer / value),
            Better::Higher => rounded(value / peer),
        });
        let (p50, p95, p99) = (value, percentile(&ours, 95), percentile(&ours, 99));
        Ok(Self {
            name,
            value,
            unit,
            better,
            peer,
            peer_value,
            ratio,
            n: ours.len(),
            p50,
            p95,
            p99,
            machine: machine.to_owned(),
        })
    }
}

fn best_first(samples: &[f64], better: Better) -> Vec<f64> {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    if better == Better::Higher {
        sorted.reverse();
    }
    sorted
}

/// The nearest rank: always a sample, the median of an even number excepted.
fn percentile(best_first: &[f64], percent: usize) -> f64 {
    let rank = (best_first.len() * percent).div_ceil(100).max(1);
    let middle = percent == 50 && best_first.len().is_multiple_of(2);
    rounded(if middle { (best_first[rank - 1] + best_first[rank]) / 2.0 } else { best_first[rank - 1] })
}

/// Four digits: the rest is noise.
fn rounded(value: f64) -> f64 {
    format!("{value:.3e}").parse().unwrap_or(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(better: Better, samples: &[f64], peer_samples: &[f64]) -> Row {
        let (name, unit) = ("x".to_owned(), "ms".to_owned());
        let peer = Some("peer".to_owned());
        Row::of(
            &Samples { name, unit, better, samples: samples.to_vec(), peer, peer_samples: peer_samples.to_vec() },
            "m",
        )
        .unwrap()
    }

    #[test]
    fn a_ratio_above_one_is_ours_whichever_way_is_better() {
        assert_eq!(row(Better::Lower, &[10.0], &[30.0]).ratio, Some(3.0));
        assert_eq!(row(Better::Higher, &[10.0], &[30.0]).ratio, Some(0.3333));
        assert_eq!(row(Better::Higher, &[10.0], &[]).ratio, None);
    }

    #[test]
    fn percentiles_go_from_the_best_to_the_worst() {
        let samples: Vec<f64> = (1..=100).map(f64::from).collect();
        let lower = row(Better::Lower, &samples, &[]);
        assert_eq!((lower.n, lower.value, lower.p50, lower.p95, lower.p99), (100, 50.5, 50.5, 95.0, 99.0));
        let higher = row(Better::Higher, &samples, &[]);
        assert_eq!((higher.value, higher.p95, higher.p99), (50.5, 6.0, 2.0));
        assert_eq!(row(Better::Lower, &[3.0, 1.0, 2.0], &[]).value, 2.0);
        assert_eq!(row(Better::Lower, &[123_456.0], &[]).value, 123_500.0);
    }

    #[test]
    fn no_samples_are_no_row() {
        let said = r#"{"name":"x","unit":"ms","better":"lower","samples":[]}"#;
        assert!(Row::of(&serde_json::from_str(said).unwrap(), "m").is_err());
    }
}
