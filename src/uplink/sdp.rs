//! Pure: SDP and candidate text.
