//! The core of the catalogue of faults: each really happens, and is told once, with its culprit.

use anyhow::Result;
use galen_integration_tests::faults::{self, Score};

#[tokio::test]
async fn the_core_faults_are_told_once_each_with_their_culprit_first_and_nothing_else_is() -> Result<()> {
    if !galen_scratch::has_root("letting faults happen") {
        return Ok(());
    }
    let mut cases = faults::catalogue()?;
    cases.retain(|case| case.core);
    let dir = tempfile::tempdir()?;
    let scores = faults::run(cases, dir.path(), |_| {}).await?;
    let wrong: Vec<_> = scores.iter().filter(|score| !score.is_perfect()).map(Score::to_string).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}
