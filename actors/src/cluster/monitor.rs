//! Looks at NATS servers: by its monitoring whether one syncs before it answers, on which "durable" rests; by what it says to
//! whoever connects of which version it is.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use super::picture::Greeting;

/// For the whole look.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest answer that is read.
const ANSWER_BYTES_MAX: u64 = 1 << 20;
/// The longest greeting that is read.
const GREETING_BYTES_MAX: u64 = 64 << 10;

/// Whether the server at `http://host:port` syncs each write; none: that cannot be found out.
pub async fn syncs_always(address: &str) -> Option<bool> {
    let host = address.strip_prefix("http://")?.trim_end_matches('/');
    let answer = tokio::time::timeout(PATIENCE, ask(host)).await.ok()?;
    let answer = answer.inspect_err(|e| log::debug!("the monitoring of NATS does not answer: {e}")).ok()?;
    let body = answer.split_once("\r\n\r\n")?.1;
    let report: Value = serde_json::from_str(body).ok()?;
    // what is off is left out
    report["config"].is_object().then(|| report["config"]["sync_always"].as_bool().unwrap_or(false))
}

/// Whether all of them do, by what each has said: one that does not is enough for a no, and one that is silent for not knowing.
pub fn all_sync(said: &[Option<bool>]) -> Option<bool> {
    if said.contains(&Some(false)) {
        return Some(false);
    }
    said.iter().all(Option::is_some).then_some(true)
}

/// What a server says of itself to whoever connects, before it asks who that is; none: nothing, or only behind TLS.
pub async fn greeting(address: &str) -> Option<Greeting> {
    let read = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut line = String::new();
        BufReader::new(&mut stream).take(GREETING_BYTES_MAX).read_line(&mut line).await?;
        std::io::Result::Ok(line)
    };
    let line = tokio::time::timeout(PATIENCE, read).await.ok()?;
    let line = line.inspect_err(|e| log::debug!("the NATS server at {address} does not answer: {e}")).ok()?;
    let told: Value = serde_json::from_str(line.strip_prefix("INFO ")?.trim_end()).ok()?;
    let text = |name: &str| Some(told[name].as_str()?.to_owned());
    Some(Greeting { name: text("server_name")?, version: text("version")? })
}

async fn ask(host: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(format!("GET /jsz HTTP/1.0\r\nHost: {host}\r\n\r\n").as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_servers_sync_when_each_has_said_so() {
        let (yes, no, silent) = (Some(true), Some(false), None);
        for (said, expected) in [
            (&[yes, yes, yes][..], yes),
            (&[yes, no, silent], no),
            (&[no, yes, yes], no),
            (&[yes, silent, yes], silent),
            (&[silent], silent),
        ] {
            assert_eq!(all_sync(said), expected, "{said:?}");
        }
    }
}
