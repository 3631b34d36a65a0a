//! What can be wrong with an answer, and with the way that it comes.

use std::io;

use crate::upload::UploadError;

/// What no honest target sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// The first line or a field of the head is none of HTTP/1.
    #[error("the head of an answer is no HTTP/1.1")]
    Head,
    /// The head has no end within its bound.
    #[error("the head of an answer is too long")]
    LongHead,
    /// Two programs could see two ends of the body.
    #[error("a length beside an encoding")]
    TwoFramings,
    /// A length that is no number, or another one than before.
    #[error("a Content-Length that is no length")]
    Length,
    /// An encoding that cannot be read, or where none may be.
    #[error("a Transfer-Encoding other than chunked")]
    Encoding,
    /// Too many answers before the answer.
    #[error("too many interim answers")]
    Interim,
    /// The line before a chunk, or the one behind it.
    #[error("a line between two chunks that is none")]
    ChunkLine,
    /// What stands behind the last chunk.
    #[error("trailers that are none, or too many")]
    Trailers,
    /// The rest of it did not come.
    #[error("an answer that broke off")]
    BrokenOff,
}

/// Why an answer did not come, or not to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AnswerError {
    /// The target ended the connection before the answer had ended.
    #[error("the target ended the connection")]
    Ended,
    /// The connection broke.
    #[error("the connection to the target broke")]
    Line(#[source] io::Error),
    /// The answer cannot be read in one way only.
    #[error("the answer of the target is refused")]
    Refused(#[source] Fault),
    /// The request's body broke off, so there is no answer to it.
    #[error("the body of the request broke off")]
    Upload(#[source] UploadError),
    /// The request's body is shorter or longer than its head said.
    #[error("the body of the request has another length than was told")]
    UploadLength,
    /// A stream of HTTP/2 broke.
    #[error("the stream to the target broke")]
    Stream(#[source] hyper::Error),
}
