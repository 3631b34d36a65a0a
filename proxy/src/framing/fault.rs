//! What is wrong with the bytes of a request.

use crate::tally::Form;

/// Why a request is refused although the library might take it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// More than one empty line before a request.
    EmptyLines,
    /// The first line is no `METHOD TARGET HTTP/1.x` with single spaces.
    RequestLine,
    /// An address with a space, a control character or a fragment.
    Target,
    /// A line that ends without a carriage return.
    BareLineFeed,
    /// A control character, a lone carriage return among them.
    Control,
    /// A field that goes on in the next line.
    Folded,
    /// A field without a name, or with a name that is none.
    FieldName,
    /// A space between the name and its colon.
    SpaceBeforeColon,
    /// An underscore where another program reads a hyphen, in a name that matters.
    LookalikeName,
    /// More than one `Host`.
    RepeatedHost,
    /// No `Host` in a request of HTTP/1.1.
    NoHost,
    /// More than one `Content-Length`.
    RepeatedLength,
    /// A `Content-Length` that is no number.
    BadLength,
    /// `Content-Length` beside `Transfer-Encoding`.
    LengthAndEncoding,
    /// A `Transfer-Encoding` other than `chunked`, once.
    Encoding,
    /// `Transfer-Encoding` in a request of HTTP/1.0.
    OldEncoding,
    /// The size of a chunk that is no number, or too large a one.
    ChunkSize,
    /// A chunk that does not end where it said.
    ChunkEnd,
    /// A trailer that must stand in the head.
    Trailer,
    /// A line, or what surrounds the chunks of a body, beyond its bound.
    TooLong,
}

impl Fault {
    /// What the client is told.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::EmptyLines => "more than one empty line before the request",
            Self::RequestLine => "a request line that is not method, address and HTTP/1.1",
            Self::Target => "an address with a space, a control character or a fragment",
            Self::BareLineFeed => "a line ends without a carriage return",
            Self::Control => "a control character",
            Self::Folded => "a field that goes on in the next line",
            Self::FieldName => "a field without a proper name",
            Self::SpaceBeforeColon => "a space before the colon of a field",
            Self::LookalikeName => "an underscore in the name of a field that has a hyphen",
            Self::RepeatedHost => "more than one Host",
            Self::NoHost => "no Host",
            Self::RepeatedLength => "more than one Content-Length",
            Self::BadLength => "a Content-Length that is no number",
            Self::LengthAndEncoding => "both Content-Length and Transfer-Encoding",
            Self::Encoding => "a Transfer-Encoding other than chunked",
            Self::OldEncoding => "a Transfer-Encoding in HTTP/1.0",
            Self::ChunkSize => "the size of a chunk is no number",
            Self::ChunkEnd => "a chunk does not end where it said",
            Self::Trailer => "a trailer that belongs in the head",
            Self::TooLong => "a line that is too long",
        }
    }

    /// What it counts as.
    pub(crate) fn form(self) -> Form {
        match self {
            Self::EmptyLines | Self::RequestLine => Form::Head,
            Self::Target => Form::Target,
            Self::BareLineFeed | Self::Control | Self::Folded | Self::TooLong => Form::Line,
            Self::FieldName | Self::SpaceBeforeColon | Self::LookalikeName | Self::Trailer => {
                Form::Field
            }
            Self::RepeatedHost | Self::NoHost => Form::Host,
            Self::RepeatedLength | Self::BadLength | Self::LengthAndEncoding => Form::Length,
            Self::Encoding | Self::OldEncoding | Self::ChunkSize | Self::ChunkEnd => Form::Encoding,
        }
    }
}
