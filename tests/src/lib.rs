//! What integration tests, the demo and the benches share: the data set, and processes that are
//! started on free ports and always stopped by pid.

pub mod certificates;
pub mod clashes;
pub mod clouds;
pub mod control;
pub mod emulators;
pub mod etcd;
pub mod fixture;
pub mod fleet;
pub mod import;
pub mod mariadb;
pub mod netns;
pub mod process;
pub mod proxy;
pub mod s3;
pub mod tpch;
