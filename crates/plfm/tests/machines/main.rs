//! The real program with real machines under QEMU and a real registry, seen from outside: what a person types, and what comes back.
//!
//! They need root, QEMU, busybox, a static bash, `docker-registry`, skopeo and curl, the guest kernel (`cargo xtask setup`) and the guest daemon
//! (`cargo xtask build`). A test that lacks something says so and passes.

mod fleet;
mod forks;
mod images;
mod limits;
mod notap;
mod parked;
mod pauses;
mod randomness;
mod sandboxes;
mod spine;
mod templates;
mod trouble;
mod volumes;
mod world;
