//! The node: keeps what its plan says, reports what is here. It never schedules, and nobody but the server speaks to it.

pub mod mind;
