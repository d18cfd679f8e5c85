//! Every key of the store, made from its parts; no other place makes one.
