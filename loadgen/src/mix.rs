//! What the scheduled requests ask for, and in which shares. Knows nothing of how it is sent.

use crate::chance::{Stream, Topic};
use crate::dialect::Load;

/// Different calls in one mix; each has a number in the log, whose operations are a byte.
pub const CALLS_MAX: usize = 64;
/// The largest weight.
pub const WEIGHT_MAX: u32 = 1_000_000;

/// Calls with their weights.
#[derive(Clone, Debug)]
pub struct Mix {
    parts: Vec<Part>,
    stream: Stream,
}

#[derive(Clone, Debug)]
struct Part {
    load: Load,
    /// The weights up to and with this one.
    until: u64,
}

impl Mix {
    /// All requests ask for the same.
    pub fn single(load: Load) -> Self {
        Self { parts: vec![Part { load, until: 1 }], stream: Stream::new(0, Topic::Mix) }
    }

    /// Reads `--call NAME[=WEIGHT]` and `--tool-args JSON` or `NAME=JSON`; without a call it is
    /// the tool `echo`.
    ///
    /// # Errors
    /// One line with the option that makes no sense.
    pub fn parse(calls: &[String], tool_args: &[String], seed: u64) -> Result<Self, String> {
        if calls.is_empty() {
            let arguments = r#"{"text":"hello"}"#.into();
            return Ok(Self::single(Load::Tool { name: "echo".into(), arguments }));
        }
        if calls.len() > CALLS_MAX {
            return Err(format!(
                "--call: {} calls, and a mix has at most {CALLS_MAX}",
                calls.len()
            ));
        }
        let mut named: Vec<(String, String, u64)> = Vec::new();
        for call in calls {
            let (name, weight) = weighted(call)?;
            if named.iter().any(|(known, ..)| known == name) {
                return Err(format!("--call {call}: '{name}' is in the mix already"));
            }
            named.push((name.to_owned(), "{}".to_owned(), weight));
        }
        let mut given = Vec::new();
        for text in tool_args {
            let at = place(&named, text)?;
            let (name, arguments, _) = &mut named[at.0];
            if given.contains(&at.0) {
                return Err(format!("--tool-args: '{name}' has arguments already"));
            }
            given.push(at.0);
            *arguments = at.1.to_owned();
        }
        let mut until = 0;
        let part = |(name, arguments, weight)| {
            until += weight;
            Part { load: Load::Tool { name, arguments }, until }
        };
        let parts = named.into_iter().map(part).collect();
        Ok(Self { parts, stream: Stream::new(seed, Topic::Mix) })
    }

    /// How many different calls there are, one at the least.
    pub fn count(&self) -> u8 {
        self.parts.len() as u8
    }

    /// What each asks for.
    pub fn loads(&self) -> impl Iterator<Item = &Load> {
        self.parts.iter().map(|part| &part.load)
    }

    /// The call that request `index` of the fleet's schedule makes: a pure function of the seed.
    pub fn pick(&self, index: u64) -> u8 {
        if self.parts.len() == 1 {
            return 0;
        }
        let total = self.parts[self.parts.len() - 1].until;
        let drawn = ((u128::from(self.stream.at(index)) * u128::from(total)) >> 64) as u64;
        self.parts.partition_point(|part| part.until <= drawn) as u8
    }

    /// The name of a call in the log and the report: `call`, or `call:NAME` where there are
    /// several.
    pub fn name(&self, call: u8) -> String {
        match &self.parts[usize::from(call)].load {
            Load::Tool { name, .. } if self.parts.len() > 1 => format!("call:{name}"),
            Load::Tool { .. } | Load::ToolsList => "call".into(),
        }
    }
}

fn weighted(call: &str) -> Result<(&str, u64), String> {
    let (name, weight) = match call.split_once('=') {
        None => (call, 1),
        Some((name, text)) => match text.parse::<u32>() {
            Ok(weight) if (1..=WEIGHT_MAX).contains(&weight) => (name, u64::from(weight)),
            _ => {
                return Err(format!(
                    "--call {call}: a weight is a whole number from 1 to {WEIGHT_MAX}, as in \
                     echo=3"
                ));
            }
        },
    };
    if name.is_empty() {
        return Err(format!("--call {call}: the tool has no name"));
    }
    Ok((name, weight))
}

/// Which call some arguments belong to, and the arguments.
fn place<'a>(named: &[(String, String, u64)], text: &'a str) -> Result<(usize, &'a str), String> {
    if text.trim_start().starts_with('{') {
        return match named.len() {
            1 => Ok((0, text)),
            _ => Err("--tool-args: with several calls, write NAME={...}".into()),
        };
    }
    let known = text.split_once('=').and_then(|(name, arguments)| {
        let at = named.iter().position(|(known, ..)| known == name)?;
        Some((at, arguments))
    });
    known.ok_or_else(|| {
        format!("--tool-args {text}: write a JSON object, or NAME={{...}} for a tool of --call")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(calls: &[&str], args: &[&str]) -> Result<Mix, String> {
        let owned = |texts: &[&str]| texts.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        Mix::parse(&owned(calls), &owned(args), 3)
    }

    #[test]
    fn one_call_is_what_it_was() {
        let mix = parse(&["add"], &[r#"{"a":"x=y"}"#]).expect("parses");
        let load = Load::Tool { name: "add".into(), arguments: r#"{"a":"x=y"}"#.into() };
        assert_eq!(mix.loads().collect::<Vec<_>>(), [&load]);
        assert_eq!((mix.name(0), mix.pick(9)), ("call".into(), 0));
        let default = parse(&[], &[]).expect("parses");
        assert!(default.loads().all(|l| matches!(l, Load::Tool { name, .. } if name == "echo")));
    }

    #[test]
    fn arguments_find_their_call() {
        let mix = parse(&["a=2", "b", "c"], &["c={\"n\":1}", "a={}"]).expect("parses");
        let texts = mix.loads().map(|load| match load {
            Load::Tool { name, arguments } => format!("{name}{arguments}"),
            Load::ToolsList => "list".into(),
        });
        assert_eq!(texts.collect::<Vec<_>>(), ["a{}", "b{}", "c{\"n\":1}"]);
        assert_eq!(mix.name(2), "call:c");
    }

    #[test]
    fn nonsense_is_refused() {
        for (calls, args) in [
            (&["a=0"][..], &[][..]),
            (&["a=x"], &[]),
            (&["a=1.5"], &[]),
            (&["=3"], &[]),
            (&["a", "a=2"], &[]),
            (&["a", "b"], &["{}"]),
            (&["a", "b"], &["d={}"]),
            (&["a"], &["{}", "a={}"]),
            (&["a"], &["x"]),
        ] {
            assert!(parse(calls, args).is_err(), "{calls:?} {args:?}");
        }
        let many: Vec<String> = (0..=CALLS_MAX).map(|n| format!("t{n}")).collect();
        assert!(Mix::parse(&many, &[], 0).is_err());
    }

    #[test]
    fn shares_are_those_of_the_weights() {
        let mix = parse(&["a=6", "b=3", "c"], &[]).expect("parses");
        let mut counts = [0.0; 3];
        let n = 100_000;
        (0..n).for_each(|index| counts[usize::from(mix.pick(index))] += 1.0);
        for (count, share) in counts.iter().zip([0.6, 0.3, 0.1]) {
            let error = (f64::from(n as u32) * share * (1.0 - share)).sqrt();
            assert!((count - n as f64 * share).abs() < 5.0 * error, "{counts:?}");
        }
    }
}
