//! Networks: addresses, published ports, names; other hosts are network namespaces.

mod endings;
mod host;
mod names;
mod options;
mod own;
mod publish;
