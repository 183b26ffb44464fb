//! The platform from outside: commands in, events and states out.

mod events;
mod fair;
mod figures;
mod fleet;
mod lost;
mod nodes;
mod pauses;
mod placement;
mod quotas;
mod random;
mod refusals;
mod rollout;
mod routes;
mod sandboxes;
mod snapshots;
mod volumes;
