//! The daemon as a process among others: both services over a UNIX socket, with real processes.

mod supervised {
    mod daemon;
    mod exec;
    mod ports;
    mod terminal;
    mod workload;
}
