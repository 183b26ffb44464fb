//! The multiplexer from its bytes up to two ends on one wire.

use super::Secret;

mod attach;
mod bytes;
mod rules;
mod streams;

fn secret() -> Secret {
    Secret::new([7; Secret::BYTES])
}

/// Numbers from a seed (splitmix64), so that a failure can be run again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((mixed ^ mixed >> 31) % sides as u64) as usize
    }
}

#[test]
fn a_secret_has_one_length_and_never_shows_itself() {
    let secret = Secret::new([0xAB; Secret::BYTES]);
    assert_eq!(secret.to_hex().parse(), Ok(secret.clone()));
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    for wrong in [
        "",
        "ab",
        &secret.to_hex()[1..],
        &format!("{}zz", &secret.to_hex()[2..]),
        &format!("{}é", &secret.to_hex()[2..]),
    ] {
        assert!(wrong.parse::<Secret>().is_err(), "{wrong}");
    }
}
