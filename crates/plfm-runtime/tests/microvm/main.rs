//! Real machines under QEMU. They need QEMU, `mke2fs` and `mkfs.erofs`; a kernel package, unpacked under `PLFM_KERNEL` or where
//! `cargo xtask setup` puts it, or installed; and the guest daemon, at `PLFM_GUEST` or where `cargo xtask build` puts it.

mod contract;
mod durability;
mod forks;
mod house;
mod life;
mod pictures;
mod points;
mod power;
mod ward;
