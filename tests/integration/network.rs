//! Networks: addresses, published ports, names; other hosts are network namespaces.

mod endings;
mod host;
mod names;
mod own;
mod publish;
