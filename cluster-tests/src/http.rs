//! As much HTTP as it takes to ask a node how it is.

use std::{collections::BTreeMap, time::Duration};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// The status code and the body of a GET.
///
/// # Errors
/// When nobody answers within five seconds, or not in HTTP.
pub async fn get(address: &str, path: &str) -> Result<(u16, String), String> {
    let exchange = async {
        let mut stream = tokio::net::TcpStream::connect(address).await?;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(Duration::from_secs(5), exchange)
        .await
        .map_err(|_| format!("{address}{path}: no answer"))?
        .map_err(|error| format!("{address}{path}: {error}"))?;
    let (head, body) = answer
        .split_once("\r\n\r\n")
        .ok_or_else(|| format!("{address}{path}: no HTTP: {answer:?}"))?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| format!("{address}{path}: no status in {head:?}"))?;
    Ok((code, body.to_owned()))
}

/// Samples of OpenMetrics text: name with labels, and value.
///
/// # Panics
/// When it is none, or says one thing twice.
#[must_use]
pub fn samples(text: &str) -> BTreeMap<String, f64> {
    let lines = text
        .strip_suffix("# EOF\n")
        .unwrap_or_else(|| panic!("OpenMetrics ends with # EOF: {text}"));
    assert!(!lines.contains("# EOF"), "it ends once: {text}");
    let mut samples = BTreeMap::new();
    for line in lines.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line
            .rsplit_once(' ')
            .unwrap_or_else(|| panic!("no sample: {line:?}"));
        let value = value
            .parse()
            .unwrap_or_else(|_| panic!("no number: {line:?}"));
        let twice = samples.insert(name.to_owned(), value);
        assert_eq!(twice, None, "{line:?} comes twice");
    }
    samples
}
