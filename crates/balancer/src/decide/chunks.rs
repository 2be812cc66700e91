//! The chunked transfer coding (RFC 9112, section 7.1): undone piece by piece, and done anew, so that what one side
//! made of it is never read by the other.

/// Longest line of a size with its extensions, and most bytes of trailers.
const EXTRA_MAX: usize = 16 * 1024;

/// Trailers that are not passed on: they would change how the message is framed, routed or trusted.
const NO_TRAILERS: [&str; 12] = [
    "authorization",
    "cache-control",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "host",
    "max-forwards",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
];

/// Not a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the size, after this many digits.
    Size(u8),
    /// After the size, up to the end of the line.
    Extension,
    SizeLf,
    Data,
    DataCr,
    DataLf,
    /// In the trailers; the argument is how much of CR LF CR LF has come.
    Trailers(u8),
    Done,
}

/// A chunked body on its way.
#[derive(Debug)]
pub struct Chunks {
    state: State,
    left: u64,
    extra: usize,
    /// Trailer lines, with the empty line that ends them.
    trailers: Vec<u8>,
}

impl Default for Chunks {
    fn default() -> Self {
        Self { state: State::Size(0), left: 0, extra: 0, trailers: Vec::new() }
    }
}

impl Chunks {
    /// Whether all of the body has come.
    pub fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// Takes some of the input: how many bytes of it are used, and which of those are content. Nothing used: more must
    /// come, or all has come.
    ///
    /// # Errors
    /// When it is not chunked as the RFC says.
    pub fn next(&mut self, input: &[u8]) -> Result<(usize, std::ops::Range<usize>), Malformed> {
        let mut at = 0;
        while let Some(byte) = input.get(at).copied() {
            match self.state {
                State::Data => {
                    let length = self.left.min((input.len() - at) as u64) as usize;
                    self.left -= length as u64;
                    if self.left == 0 {
                        self.state = State::DataCr;
                    }
                    return Ok((at + length, at..at + length));
                }
                State::Done => break,
                _ => self.step(byte)?,
            }
            at += 1;
        }
        Ok((at, at..at))
    }

    fn step(&mut self, byte: u8) -> Result<(), Malformed> {
        self.state = match (self.state, byte) {
            (State::Size(digits), b'0'..=b'9' | b'a'..=b'f' | b'A'..=b'F') => {
                let digit = char::from(byte).to_digit(16).unwrap_or(0);
                let larger = self.left.checked_mul(16).ok_or(Malformed)?;
                self.left = larger + u64::from(digit);
                self.extra(digits == u8::MAX)?;
                State::Size(digits.saturating_add(1))
            }
            (State::Size(1..), b';' | b' ' | b'\t') => State::Extension,
            (State::Size(1..) | State::Extension, b'\r') => State::SizeLf,
            (State::Extension, byte) if byte != b'\n' => {
                self.extra(false)?;
                State::Extension
            }
            (State::SizeLf, b'\n') if self.left == 0 => State::Trailers(2),
            (State::SizeLf, b'\n') => State::Data,
            (State::DataCr, b'\r') => State::DataLf,
            (State::DataLf, b'\n') => State::Size(0),
            (State::Trailers(seen), byte) => {
                self.extra(false)?;
                self.trailers.push(byte);
                match (seen, byte) {
                    (0 | 2, b'\r') => State::Trailers(seen + 1),
                    (1, b'\n') => State::Trailers(2),
                    (3, b'\n') => State::Done,
                    (0 | 2, byte) if byte != b'\n' => State::Trailers(0),
                    _ => return Err(Malformed),
                }
            }
            _ => return Err(Malformed),
        };
        Ok(())
    }

    fn extra(&mut self, too_much: bool) -> Result<(), Malformed> {
        self.extra += 1;
        if too_much || self.extra > EXTRA_MAX { Err(Malformed) } else { Ok(()) }
    }

    /// Writes the last chunk, with those trailers that `declared` (the `Trailer` field's value) names.
    ///
    /// # Errors
    /// When the trailers are no header fields.
    pub fn finish(&self, out: &mut Vec<u8>, declared: &str) -> Result<(), Malformed> {
        out.extend_from_slice(b"0\r\n");
        let mut space = [httparse::EMPTY_HEADER; 32];
        let (_, fields) = match httparse::parse_headers(&self.trailers, &mut space) {
            Ok(httparse::Status::Complete(read)) => read,
            _ => return Err(Malformed),
        };
        for field in fields {
            let named = super::fields::tokens(declared).any(|name| name.eq_ignore_ascii_case(field.name));
            if named && !NO_TRAILERS.iter().any(|name| name.eq_ignore_ascii_case(field.name)) {
                super::forwarded::line(out, field.name, field.value);
            }
        }
        out.extend_from_slice(b"\r\n");
        Ok(())
    }
}

/// Writes a chunk. There is no empty one: that would be the last.
pub fn write(out: &mut Vec<u8>, content: &[u8]) {
    if !content.is_empty() {
        let digits = 16 - (content.len() as u64).leading_zeros() / 4;
        for place in (0..digits).rev() {
            out.push(b"0123456789abcdef"[content.len() >> (4 * place) & 15]);
        }
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(content);
        out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Reads pieces of at most `step` bytes: the content, how many bytes were used, and the last chunk made of it.
    fn read(text: &[u8], step: usize) -> Result<(Vec<u8>, usize, String), Malformed> {
        let (mut chunks, mut content, mut at) = (Chunks::default(), Vec::new(), 0);
        while at < text.len() && !chunks.is_done() {
            let piece = &text[at..text.len().min(at + step)];
            let (used, range) = chunks.next(piece)?;
            content.extend_from_slice(&piece[range]);
            at += used;
        }
        let mut last = Vec::new();
        if chunks.is_done() {
            chunks.finish(&mut last, "X-Sum, Host")?;
        }
        Ok((content, at, String::from_utf8(last).unwrap()))
    }

    #[test]
    fn well_formed() {
        let text = b"4;name=x\r\nwiki\r\n0A \r\n0123456789\r\n000\r\nx-sum: 1\r\nHost: evil\r\nx-other: 2\r\n\r\nnext";
        for step in 1..text.len() {
            let (content, used, last) = read(text, step).unwrap();
            assert_eq!((&content[..], &text[used..]), (&b"wiki0123456789"[..], &b"next"[..]));
            assert_eq!(last, "0\r\nx-sum: 1\r\n\r\n");
        }
    }

    #[test]
    fn malformed() {
        for text in [
            &b"\r\n"[..],
            b";\r\n",
            b"-1\r\n",
            b"0x1\r\n",
            b"1\n",
            b"1;a\nb\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n0\r\n\r\n",
            b"1\r\na\r0",
            b"10000000000000000\r\n",
            b"0\r\n\n",
            b"0\r\nA: b\n\r\n",
            b"0\r\nA: b\r\r\n",
            b"0\r\nno field\r\n\r\n",
        ] {
            assert_eq!(read(text, 1), Err(Malformed), "{:?}", String::from_utf8_lossy(text));
        }
        let long = [&b"1;"[..], &[b'x'; EXTRA_MAX + 1]].concat();
        assert_eq!(read(&long, 1000), Err(Malformed));
        assert_eq!(read(&[b'0'; 300], 1000), Err(Malformed));
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(pieces in proptest::collection::vec(proptest::collection::vec(0_u8..255, 0..300), 0..5), step in 1_usize..400) {
            let mut text = Vec::new();
            pieces.iter().for_each(|piece| write(&mut text, piece));
            text.extend_from_slice(b"0\r\n\r\n");
            let (content, used, _) = read(&text, step).unwrap();
            prop_assert_eq!((content, used), (pieces.concat(), text.len()));
        }

        #[test]
        fn anything_can_be_read(bytes in proptest::collection::vec(proptest::sample::select(b"0a1;\r\n x:".to_vec()), 0..60)) {
            if let Ok((content, used, _)) = read(&bytes, 7) {
                prop_assert!(content.len() <= used && used <= bytes.len());
            }
        }
    }
}
