//! Where the bearer token comes from. Read anew for each request, so that a renewed file counts at once.

use std::path::Path;

use tokio::io::AsyncReadExt;

use crate::config::TokenSource;
use crate::config::units::Secret;
use crate::supervisor::event::Failure;
use crate::uplink::failure::no_token;

/// HTTP servers refuse headers longer than this anyway.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// The token, without the blanks and line ends around it.
///
/// # Errors
/// `TokenProviderFailed`, to be tried again: the file may be written just now.
pub(super) async fn read(source: &TokenSource) -> Result<Secret, Failure> {
    match source {
        TokenSource::Value(secret) => checked(secret.expose(), "`uplink.token`"),
        TokenSource::File(path) => read_file(path).await,
        TokenSource::Command(_) | TokenSource::Url(_) | TokenSource::Credential(_) => {
            Err(no_token("this build reads the token from `uplink.token` or `uplink.tokenFile` alone"))
        }
    }
}

async fn read_file(path: &Path) -> Result<Secret, Failure> {
    let name = format!("the token file `{}`", path.display());
    let mut text = String::new();
    let limit = TOKEN_BYTES_MAX as u64 + 1;
    let read = async { tokio::fs::File::open(path).await?.take(limit).read_to_string(&mut text).await };
    match read.await {
        // Kinds only ("entity not found"): the full text could quote what is in the file.
        Err(err) => Err(no_token(format!("{name} cannot be read: {}", err.kind()))),
        Ok(_) => checked(&text, &name),
    }
}

fn checked(text: &str, name: &str) -> Result<Secret, Failure> {
    let token = text.trim();
    if token.is_empty() {
        return Err(no_token(format!("{name} is empty; a bearer token was expected")));
    }
    if token.len() > TOKEN_BYTES_MAX {
        return Err(no_token(format!("{name} is longer than {TOKEN_BYTES_MAX} bytes; that is no bearer token")));
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(no_token(format!("{name} holds blanks or characters that no bearer token has (RFC 6750)")));
    }
    Ok(Secret::new(token.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::status::ErrorCode;
    use crate::supervisor::event::Retry;

    #[tokio::test]
    async fn a_token_file_is_read_anew_each_time_and_trimmed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = TokenSource::File(file.path().to_owned());
        for token in ["first", "second"] {
            std::fs::write(file.path(), format!("  {token}\r\n")).unwrap();
            assert_eq!(read(&source).await.unwrap().expose(), token);
        }
    }

    #[tokio::test]
    async fn an_unusable_token_is_a_provider_failure_that_tells_no_secret() {
        let dir = tempfile::tempdir().unwrap();
        let long = "x".repeat(TOKEN_BYTES_MAX + 1);
        for (name, bytes) in [
            ("empty", &b" \n"[..]),
            ("blank", b"hush hush"),
            ("control", b"hush\x01"),
            ("binary", b"\xff\xfe"),
            ("long", long.as_bytes()),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let failure = read(&TokenSource::File(path)).await.unwrap_err();
            assert_eq!((failure.code, failure.retry), (ErrorCode::TokenProviderFailed, Retry::Backoff), "{name}");
            assert!(failure.words.contains(name) && !failure.words.contains("hush"), "{failure}");
        }
        let missing = read(&TokenSource::File(dir.path().join("missing"))).await.unwrap_err();
        assert!(missing.words.contains("missing` cannot be read"), "{missing}");
    }
}
