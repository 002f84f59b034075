//! The header fields that are added to every request, where they come from, and which of their values
//! no output may show.

use std::fs;

use crate::cli::Cli;

/// Header fields, name and value.
pub type Fields = Vec<(String, String)>;

/// Parts of the names of fields whose values let someone in.
const SENSITIVE: [&str; 8] =
    ["auth", "cookie", "token", "secret", "password", "credential", "api-key", "apikey"];

/// Reads the fields from the command line, from files and from the environment; and those values that
/// no output may show: what did not stand on the command line, longer ones first.
///
/// # Errors
/// What is wrong, in a sentence that repeats no value.
pub fn read(cli: &Cli) -> Result<(Fields, Vec<String>), String> {
    let (mut fields, mut secrets) = (Fields::new(), Vec::new());
    let mut hide = |(name, value): (String, String)| {
        // A scheme such as `Bearer` is no secret, and what follows it may stand alone.
        secrets.extend(value.rsplit(' ').next().map(str::to_owned));
        secrets.push(value.clone());
        fields.push((name, value));
    };
    let mut open = Fields::new();
    for header in &cli.headers {
        match header.strip_prefix('@') {
            None => open.push(typed(header)?),
            Some(file) => {
                let text =
                    fs::read_to_string(file).map_err(|e| format!("--header @{file}: {e}"))?;
                for line in text.lines().filter(|line| !line.trim().is_empty()) {
                    hide(field(line)?);
                }
            }
        }
    }
    for line in &cli.scenario_headers {
        hide(field(line)?);
    }
    if let Some(variable) = &cli.bearer_env {
        let token = std::env::var(variable).unwrap_or_default();
        if token.trim().is_empty() {
            return Err(format!("--bearer-env {variable}: the variable is not set, or is empty"));
        }
        hide(("Authorization".to_owned(), format!("Bearer {}", token.trim())));
    }
    fields.append(&mut open);
    // A part must not be hidden before the whole.
    secrets.retain(|secret| !secret.is_empty());
    secrets.sort_unstable_by_key(|secret| std::cmp::Reverse(secret.len()));
    Ok((fields, secrets))
}

fn field(line: &str) -> Result<(String, String), String> {
    // The line may hold a secret, so that it is not repeated.
    let (name, value) =
        line.split_once(':').ok_or("--header: a header is written 'Name: value'")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

/// A field from the command line, where every user of this host, the shell's history and whoever
/// drives this program can read it: none that lets someone in.
fn typed(line: &str) -> Result<(String, String), String> {
    let (name, value) = field(line)?;
    let lower = name.to_ascii_lowercase();
    if SENSITIVE.iter().any(|part| lower.contains(part)) {
        return Err(format!(
            "--header '{name}: ...' shows its value to everyone who can list this host's processes: \
             keep the line in a file and give --header @FILE, or a token in the environment and give \
             --bearer-env VARIABLE"
        ));
    }
    Ok((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lets_someone_in_is_not_taken_from_the_command_line() {
        for line in [
            "Authorization: Bearer S3CRET",
            "PROXY-AUTHORIZATION: Basic S3CRET",
            "cookie: a=S3CRET",
            "X-Api-Key: S3CRET",
            "X-Auth-Token:S3CRET",
            "Private-Token: S3CRET",
        ] {
            let error = typed(line).expect_err(line);
            assert!(error.contains("--header @FILE") && error.contains("--bearer-env VARIABLE"));
            assert!(!error.contains("S3CRET"), "{error}");
        }
        let error = typed("S3CRET").expect_err("no colon");
        assert!(!error.contains("S3CRET"), "{error}");
        let fine = typed("X-Tenant:  7 ").expect("no secret");
        assert_eq!(fine, ("X-Tenant".to_owned(), "7".to_owned()));
    }
}
