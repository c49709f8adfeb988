//! Containers: what was asked for, what became of it, and everything that can be done with them.
//!
//! ```text
//! <root>/containers/<id>/container.json   the record: what was asked for          (record)
//!                        exit.json        how it last ended                       (state)
//!                        lock             held by its supervisor as long as it lives
//!                        networks.lock    held while it is connected or disconnected       (connection)
//!                        upper/ work/     its own layer
//!                        log, log.1 …     its output                              (log)
//! <root>/names/<name>                     a link whose text is the id
//! <state>/<id>/run.json                   its processes                           (state)
//!              socket                     where clients reach its supervisor      (protocol)
//!              config.json                the OCI bundle's specification, composed at each start
//!              hosts, hostname, resolv.conf            as mounted into it
//! ```

pub mod attach;
pub mod commit;
mod commit_volumes;
pub mod compose;
pub mod connection;
pub mod containers;
pub mod copy;
pub mod create;
pub mod device_requests;
pub mod exec;
pub mod export;
pub mod health;
pub mod lifecycle;
pub mod log;
pub mod names;
pub mod options;
pub mod protocol;
pub mod prune;
pub mod record;
pub mod resources;
pub mod resume;
pub mod seccomp_profile;
pub mod session;
pub mod sharing;
pub mod start;
pub mod state;
pub mod stats;
pub mod supervisor;
pub mod task;
pub mod tell;
pub mod update;
pub mod users;
pub mod view;
pub mod volumes;
