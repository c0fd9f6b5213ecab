//! Links between the pages: what a relative one points to must be there.

use std::{fs, path::Path};

use anyhow::Context;

const PAGES: [&str; 3] = ["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"];

/// The links that lead nowhere, each with its page.
pub(super) fn dead(root: &Path) -> anyhow::Result<Vec<String>> {
    let mut pages: Vec<_> = PAGES.iter().map(|page| root.join(page)).collect();
    let docs = root.join("docs");
    for entry in fs::read_dir(&docs).with_context(|| format!("failed to read {}", docs.display()))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "md") {
            pages.push(path);
        }
    }
    pages.sort();
    let mut dead = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).with_context(|| format!("failed to read {}", page.display()))?;
        let folder = page.parent().unwrap_or(root);
        let missing = targets(&text).filter(|target| !folder.join(target).exists());
        let name = page.strip_prefix(root).unwrap_or(&page).display();
        dead.extend(missing.map(|target| format!("{name}: {target}")));
    }
    Ok(dead)
}

/// Files that a page links to, outside of its code blocks.
fn targets(text: &str) -> impl Iterator<Item = &str> {
    let prose = text.split("```").step_by(2);
    let targets = prose.flat_map(|part| part.split("](").skip(1)).filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !target.starts_with('#'))
        .filter_map(|target| target.split('#').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_files_are_followed() {
        let text = "[a](docs/a.md), [b](https://b.example)\n```\n[c](c.md)\n```\n[d](#d) [e](../e.md#part)";
        assert_eq!(targets(text).collect::<Vec<_>>(), ["docs/a.md", "../e.md"]);
    }

    #[test]
    fn a_link_to_nothing_is_told_with_its_page() {
        let root = std::env::temp_dir().join(format!("galen-xtask-links-{}", std::process::id()));
        fs::create_dir_all(root.join("docs")).unwrap();
        for page in PAGES {
            fs::write(root.join(page), "[there](docs/a.md)").unwrap();
        }
        fs::write(root.join("docs/a.md"), "[there](../README.md) [not](b.md#part)").unwrap();
        let dead = dead(&root);
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(dead.unwrap(), ["docs/a.md: b.md"]);
    }
}
