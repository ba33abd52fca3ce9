//! What a program prints, as text in whole lines.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// As much is read at once; a longer line is cut.
const CHUNK: usize = 64 * 1024;

/// Reads a pipe in whole lines: at most 64 KiB at once, longer lines in parts. Bytes that are not UTF-8 are shown as
/// `\xff`; all else stays as it is, colours too.
#[derive(Debug)]
pub struct Lines<R> {
    pipe: R,
    read: Vec<u8>,
    ended: bool,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// The lines of a pipe.
    pub fn new(pipe: R) -> Self {
        Self { pipe, read: Vec::new(), ended: false }
    }

    /// The next lines, each with its end; none when the pipe has ended. A program that prints faster than it is asked
    /// waits at its end of the pipe.
    pub async fn next(&mut self) -> Option<String> {
        while !self.ended {
            let room = (CHUNK - self.read.len()) as u64;
            self.ended = !matches!((&mut self.pipe).take(room).read_buf(&mut self.read).await, Ok(1..));
            let end = end_of_lines(&self.read, self.ended);
            if end == 0 {
                continue;
            }
            let mut lines = text(&self.read[..end]).replace("\r\n", "\n");
            self.read.drain(..end);
            if !lines.ends_with('\n') {
                lines.push('\n');
            }
            return Some(lines);
        }
        None
    }
}

fn text(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() + 1);
    for chunk in bytes.utf8_chunks() {
        text.push_str(chunk.valid());
        chunk.invalid().iter().for_each(|byte| text.push_str(&format!("\\x{byte:02x}")));
    }
    text
}

/// Where the last whole line of what was read ends; all of it when there is no more room, or no more to come.
fn end_of_lines(read: &[u8], ended: bool) -> usize {
    match read.iter().rposition(|byte| *byte == b'\n') {
        Some(end) if !ended => end + 1,
        None if !ended && read.len() < CHUNK => 0,
        _ => read.len(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_stay_and_what_is_no_text_is_shown_as_bytes() {
        assert_eq!(text(b"\x1b[31mred\x1b[0m \xff\xfe \xc3\xa9"), "\u{1b}[31mred\u{1b}[0m \\xff\\xfe \u{e9}");
    }

    #[test]
    fn lines_are_handed_on_whole_unless_they_are_too_long() {
        assert_eq!(end_of_lines(b"one\ntw", false), 4);
        assert_eq!(end_of_lines(b"one", false), 0);
        assert_eq!(end_of_lines(b"one", true), 3);
        assert_eq!(end_of_lines(&[b'x'; CHUNK], false), CHUNK);
    }

    #[tokio::test]
    async fn a_last_line_without_an_end_gets_one() {
        let mut lines = Lines::new(&b"one\r\ntwo\nthree"[..]);
        assert_eq!(lines.next().await.as_deref(), Some("one\ntwo\n"));
        assert_eq!(lines.next().await.as_deref(), Some("three\n"));
        assert_eq!(lines.next().await, None);
    }
}
