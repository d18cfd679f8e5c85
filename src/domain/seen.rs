//! What a subject remembers of its events, entries and payments, to tell repeats.
