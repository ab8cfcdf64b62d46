//! The house across the street: the embedded ingest server. Shares nothing with the encoder but `signal::*_text`.
