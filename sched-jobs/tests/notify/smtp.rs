//! A mail server on loopback that keeps what it gets.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Mutex};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::world;

/// How it behaves.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Manner {
    /// STARTTLS, a login, then mail.
    Starttls,
    /// TLS from the first byte.
    Tls,
    /// No TLS at all.
    Plain,
    /// STARTTLS, and no login is right.
    WrongLogin,
    /// No TLS, and it knows nobody.
    KnowsNobody,
}

/// What it was told, a line each, before and after TLS; letters as one entry each.
#[derive(Default)]
pub(crate) struct Heard {
    pub(crate) clear: Vec<String>,
    pub(crate) lines: Vec<String>,
    pub(crate) letters: Vec<String>,
}

pub(crate) struct Smtp {
    pub(crate) port: u16,
    /// The authority to trust.
    pub(crate) authority: String,
    pub(crate) heard: Arc<Mutex<Heard>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

impl Smtp {
    pub(crate) fn start(manner: Manner) -> Self {
        let (config, authority) = world::tls((2100, 1, 1));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let heard = Arc::<Mutex<Heard>>::default();
        let all = heard.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (config, heard) = (config.clone(), all.clone());
                std::thread::spawn(move || {
                    let mut stream = stream.unwrap();
                    if manner == Manner::Tls {
                        talk(&mut secured(config, stream), manner, true, true, &heard);
                    } else if talk(&mut stream, manner, false, true, &heard) {
                        talk(&mut secured(config, stream), manner, true, false, &heard);
                    }
                });
            }
        });
        Self { port, authority, heard }
    }
}

fn secured<S: Stream>(config: Arc<ServerConfig>, stream: S) -> StreamOwned<ServerConnection, S> {
    StreamOwned::new(ServerConnection::new(config).unwrap(), stream)
}

/// Talks until the client leaves; true when it wants TLS from here.
fn talk(stream: &mut dyn Stream, manner: Manner, secure: bool, greet: bool, heard: &Mutex<Heard>) -> bool {
    // One byte at a time: what follows STARTTLS is not for this reader.
    let mut reader = BufReader::with_capacity(1, stream);
    let say = |reader: &mut BufReader<&mut dyn Stream>, text: &str| {
        // A client that has gone hears nothing.
        let _ = reader.get_mut().write_all(format!("{text}\r\n").as_bytes());
        let _ = reader.get_mut().flush();
    };
    if greet {
        say(&mut reader, "220 localhost ready");
    }
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return false;
        }
        let line = line.trim_end().to_owned();
        {
            let mut heard = heard.lock().unwrap();
            if secure { heard.lines.push(line.clone()) } else { heard.clear.push(line.clone()) }
        }
        let verb = line.split(' ').next().unwrap().to_ascii_uppercase();
        match verb.as_str() {
            "EHLO" if secure => say(&mut reader, "250-localhost\r\n250 AUTH PLAIN LOGIN"),
            "EHLO" if matches!(manner, Manner::Starttls | Manner::WrongLogin) => {
                say(&mut reader, "250-localhost\r\n250 STARTTLS");
            }
            "EHLO" => say(&mut reader, "250 localhost"),
            "STARTTLS" => {
                say(&mut reader, "220 go on");
                return true;
            }
            "AUTH" if manner == Manner::WrongLogin => say(&mut reader, "535 5.7.8 wrong"),
            "AUTH" => say(&mut reader, "235 2.7.0 welcome"),
            "RCPT" if manner == Manner::KnowsNobody => say(&mut reader, "550 5.1.1 no such user"),
            "DATA" => {
                say(&mut reader, "354 go on");
                let mut letter = String::new();
                while !letter.ends_with("\r\n.\r\n") {
                    if reader.read_line(&mut letter).unwrap_or(0) == 0 {
                        return false;
                    }
                }
                heard.lock().unwrap().letters.push(letter);
                say(&mut reader, "250 2.0.0 kept");
            }
            "QUIT" => {
                say(&mut reader, "221 bye");
                return false;
            }
            _ => say(&mut reader, "250 2.0.0 fine"),
        }
    }
}
