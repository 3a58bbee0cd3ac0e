//! TLS towards backends that are not of the mesh: begun inside a tunnel or on a plain connection, for whom a policy demands
//! it.

mod config;
#[cfg(test)]
mod tests;
mod verify;

pub(super) use config::originate;
