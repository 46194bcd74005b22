//! `stentor login` and `stentor logout`: a token is asked for, tried, and kept for the commands that come after.

use std::io::{self, BufRead, IsTerminal, Read, Write};

use clap::Args;
use serde_json::Value as Json;

use super::channel::is_plain;
use super::logins::Logins;
use super::output::tame;
use super::remote::{Remote, RemoteArgs, Request};
use super::{Failure, output};

/// The longest token that is taken, in bytes; a JWT with a large key set stays below.
const TOKEN_BYTES_MAX: usize = 16 * 1024;

/// Keys as a terminal sends them.
const CTRL_C: u8 = 3;
const CTRL_D: u8 = 4;
const BACKSPACE: u8 = 8;
const CTRL_U: u8 = 21;
const DELETE: u8 = 127;

/// The flags of `stentor login`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  stentor login --server https://events.example.org
  stentor login --server https://events.example.org < token.txt

The token is asked for without showing it, tried, and kept in stentor/login.toml in your configuration folder, which
only you can read. A token that the server refuses is not kept.")]
pub struct LoginArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// The flags of `stentor logout`.
#[derive(Debug, Args)]
pub struct LogoutArgs {
    #[command(flatten)]
    remote: RemoteArgs,
}

/// Asks for a token, tries it and keeps it.
///
/// # Errors
/// Wrong usage without a token; failed when the server refuses it or is not there, and when it cannot be kept.
pub fn run(args: LoginArgs) -> Result<(), Failure> {
    let server = args.remote.server()?;
    let mut logins = Logins::load()?;
    let token = match args.remote.token_flag()? {
        Some(token) => token,
        None => asked_for(&server)?,
    };
    let credential = actix_web::rt::System::new().block_on(async {
        let remote = Remote::at(&args.remote, &server, Some(token.clone()))?;
        let asked = remote.json(&Request::get("/api/v1/tokens/current")).await;
        let mut credential = asked.map_err(|trouble| match trouble.status() {
            Some(401) => Failure::Failed(format!("{server} refuses this token; nothing is kept: check the token")),
            _ => Failure::Failed(format!("{}; nothing is kept: check --server and try again", trouble.reason())),
        })?;
        if let Some(slug) = slug(&remote, &credential["data"]).await {
            credential["data"]["channel"] = slug.into();
        }
        Ok::<_, Failure>(credential)
    })?;
    if !credential["data"].is_object() {
        let reason = "its answer describes no token; nothing is kept: is this a Stentor server?";
        return Err(Failure::Failed(format!("{server}: {reason}")));
    }
    logins.tokens.insert(server.clone(), token);
    logins.server = Some(server.clone());
    let path = logins.save()?;
    output::text(&format!("logged in to {server} with {}; kept in {}\n", holder(&credential["data"]), path.display()))
}

/// Forgets the token of a server.
///
/// # Errors
/// When there is none, or the file cannot be read or written.
pub fn forget(args: LogoutArgs) -> Result<(), Failure> {
    let server = args.remote.server()?;
    let mut logins = Logins::load()?;
    if logins.tokens.remove(&server).is_none() {
        let known: Vec<_> = logins.tokens.keys().map(String::as_str).collect();
        let hint =
            if known.is_empty() { String::new() } else { format!("; you are logged in to {}", known.join(", ")) };
        return Err(Failure::Failed(format!("you are not logged in to {server}{hint}")));
    }
    if logins.server.as_ref() == Some(&server) {
        logins.server = None;
    }
    logins.save()?;
    output::text(&format!("forgot the token of {server}\n"))
}

/// The channel of a credential by the slug of its map, which says more to people than an id; none where it is no map, or the token
/// may not ask.
async fn slug(remote: &Remote, credential: &Json) -> Option<String> {
    let map = credential["channel"].as_str()?.strip_prefix("map:").filter(|id| is_plain(id))?;
    let answer = remote.json(&Request::get(&format!("/api/maps/{map}"))).await.ok()?;
    Some(format!("map:{}", answer["data"]["slug"].as_str()?))
}

/// Whose token it is, in words.
fn holder(credential: &Json) -> String {
    if credential["admin"] == true {
        return "the admin token".to_owned();
    }
    let text = |name: &str| tame(credential[name].as_str().unwrap_or_default());
    let list = |name: &str| {
        let list = credential[name].as_array().map_or(&[][..], Vec::as_slice);
        list.iter().filter_map(Json::as_str).map(tame).collect::<Vec<_>>().join(", ")
    };
    let channels = if credential["channel"].is_null() { list("channels") } else { text("channel") };
    let name = match text("name") {
        name if name.is_empty() => String::new(),
        name => format!(" '{name}'"),
    };
    format!("the token{name} of {channels} ({})", list("scopes"))
}

/// One line: from the terminal without showing it, else from standard input.
fn asked_for(server: &str) -> Result<String, Failure> {
    let stdin = io::stdin();
    let line = if stdin.is_terminal() {
        let _ = write!(io::stderr(), "token for {server}: ").and_then(|()| io::stderr().flush());
        let line = Silence::begin().and_then(|silence| silence.line(&mut stdin.lock()));
        let _ = writeln!(io::stderr());
        line.map_err(|e| Failure::Failed(format!("cannot read the token from the terminal: {e}")))?
    } else {
        let mut line = String::new();
        let read = stdin.lock().take(TOKEN_BYTES_MAX as u64 + 1).read_line(&mut line);
        read.map_err(|e| Failure::Failed(format!("cannot read the token from standard input: {e}")))?;
        Some(line)
    };
    let token = line.unwrap_or_default().trim().to_owned();
    match token.len() {
        0 => Err(Failure::Usage("no token was given; nothing is kept".to_owned())),
        1..=TOKEN_BYTES_MAX => Ok(token),
        _ => Err(Failure::Usage(format!("a token has at most {TOKEN_BYTES_MAX} bytes; nothing is kept"))),
    }
}

/// A terminal that shows nothing of what is typed and leaves every key to us, until this is dropped.
struct Silence {
    before: libc::termios,
}

impl Silence {
    fn begin() -> io::Result<Silence> {
        // SAFETY: a termios is plain numbers, and the first call fills it
        let before = unsafe {
            let mut before: libc::termios = std::mem::zeroed();
            if libc::tcgetattr(libc::STDIN_FILENO, &mut before) != 0 {
                return Err(io::Error::last_os_error());
            }
            before
        };
        let mut silent = before;
        // without ISIG Ctrl-C comes as a character, so that the terminal shows again what is typed before this ends
        silent.c_lflag &= !(libc::ECHO | libc::ECHONL | libc::ICANON | libc::ISIG);
        silent.c_cc[libc::VMIN] = 1;
        silent.c_cc[libc::VTIME] = 0;
        // SAFETY: the struct is ours and filled
        match unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, &silent) } {
            0 => Ok(Silence { before }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// What is typed up to Enter; none after Ctrl-C or Ctrl-D.
    fn line(&self, keys: &mut impl BufRead) -> io::Result<Option<String>> {
        let mut line = Vec::new();
        for key in keys.bytes() {
            match key? {
                b'\r' | b'\n' => return Ok(Some(String::from_utf8_lossy(&line).into_owned())),
                CTRL_C | CTRL_D => return Ok(None),
                BACKSPACE | DELETE => drop(line.pop()),
                CTRL_U => line.clear(),
                _ if line.len() > TOKEN_BYTES_MAX => {}
                byte => line.push(byte),
            }
        }
        Ok(None)
    }
}

impl Drop for Silence {
    fn drop(&mut self) {
        // SAFETY: the struct is what the terminal had before
        unsafe { libc::tcsetattr(libc::STDIN_FILENO, libc::TCSADRAIN, &self.before) };
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_login_says_whose_token_it_is() {
        assert_eq!(holder(&json!({"admin": true})), "the admin token");
        let reader = json!({"admin": false, "channel": "map:1", "scopes": ["subscribe", "publish"], "name": "bot"});
        assert_eq!(holder(&reader), "the token 'bot' of map:1 (subscribe, publish)");
        let several =
            json!({"admin": false, "channel": null, "channels": ["map:1", "organization:*"], "scopes": ["subscribe"]});
        assert_eq!(holder(&several), "the token of map:1, organization:* (subscribe)");
    }
}
