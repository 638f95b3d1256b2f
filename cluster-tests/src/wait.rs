//! Waiting for conditions, and saying what the test is doing.

use std::time::{Duration, Instant};

/// How often a condition is looked at.
const PERIOD: Duration = Duration::from_millis(20);

/// Says which phase of a test begins: shown when the test fails.
pub fn phase(what: &str) {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let (minutes, millis) = (now.as_secs() / 60 % 60, now.as_millis() % 60_000);
    println!(
        "--- {minutes:02}:{:02}.{:03} {what}",
        millis / 1000,
        millis % 1000
    );
}

/// Waits until `condition` holds, and answers what it found. It says what is wrong while it does not.
///
/// # Panics
/// With the last thing that was wrong, when it does not hold within `within`.
pub async fn eventually<T>(
    what: &str,
    within: Duration,
    mut condition: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let began = Instant::now();
    loop {
        let last = match condition().await {
            Ok(found) => return found,
            Err(why) => why,
        };
        assert!(
            began.elapsed() < within,
            "not within {within:?}: {what}: {last}"
        );
        tokio::time::sleep(PERIOD).await;
    }
}

/// A condition's answer: fine, or what is wrong.
///
/// # Errors
/// `why` unless `holds`.
pub fn check(holds: bool, why: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(why()) }
}
