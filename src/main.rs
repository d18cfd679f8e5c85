//! `balance-projector`: the roles and the operator's commands.

fn main() {}
