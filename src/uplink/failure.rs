//! Pure: every error -> Failure { phase, retry, code, words }.
