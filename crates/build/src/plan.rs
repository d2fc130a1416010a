//! From instructions to a graph: which step needs which, and what is executed at all for a target.

use std::collections::BTreeMap;

use crate::args::Args;
use crate::dockerfile::{self, Line};
use crate::instruction::{self, Instruction};
use crate::{Error, expand};

/// More stages than this are refused.
const STAGES_MAX: usize = 1_000;

/// One step of the graph.
#[derive(Debug)]
pub(crate) struct Step {
    pub line: Line,
    pub instruction: Instruction,
    /// Steps whose results it uses: the one before it in its stage, a stage's last one.
    pub needs: Vec<usize>,
    /// The one before it; `None`: it is a FROM.
    pub before: Option<usize>,
    /// Last step of the stage that FROM or `COPY --from` names.
    pub stage_end: Option<usize>,
    stage: usize,
}

/// A Dockerfile made ready.
#[derive(Debug)]
pub(crate) struct Plan {
    /// ARGs before the first FROM.
    pub globals: Vec<Line>,
    pub args: Args,
    pub steps: Vec<Step>,
    /// The step whose result is the build's.
    pub target: usize,
    stages: Vec<Stage>,
}

#[derive(Debug)]
struct Stage {
    name: Option<String>,
    last: usize,
}

/// Reads a Dockerfile; `labels` become a last instruction of the target.
pub(crate) fn make(
    text: &str,
    file: &str,
    mut args: Args,
    target: Option<&str>,
    labels: &BTreeMap<String, String>,
) -> Result<Plan, Error> {
    let lines = dockerfile::split(text)?;
    if lines.is_empty() {
        return Err(Error::Invalid(format!(
            "the Dockerfile ({file}) cannot be empty"
        )));
    }
    let mut plan = Plan {
        globals: Vec::new(),
        args: args.clone(),
        steps: Vec::new(),
        target: 0,
        stages: Vec::new(),
    };
    for line in lines {
        let instruction = instruction::parse(&line, file)?;
        match &instruction {
            Instruction::Arg(list) if plan.stages.is_empty() => {
                declare_globals(&mut args, &line, list)?;
                plan.globals.push(line);
                continue;
            }
            Instruction::From { name, .. } => plan.begin_stage(name.clone())?,
            Instruction::Onbuild(text) => check_trigger(&line, text, file)?,
            _ if plan.stages.is_empty() => {
                return Err(Error::Invalid(
                    "no build stage in current context".to_owned(),
                ));
            }
            _ => {}
        }
        plan.add(line, instruction, &args);
    }
    plan.args = args;
    let stage = plan.find_target(target)?;
    plan.add_labels(stage, labels);
    Ok(plan)
}

fn declare_globals(
    args: &mut Args,
    line: &Line,
    list: &[(String, Option<String>)],
) -> Result<(), Error> {
    for (name, default) in list {
        let lookup = |name: &str| args.global(name);
        let default = default
            .as_ref()
            .map(|text| expand::word(text, line.escape, &lookup));
        let default = default.transpose().map_err(Error::Invalid)?;
        args.declare_global(name, default);
    }
    Ok(())
}

/// A trigger is read when it is declared: later, its author is not there any more.
fn check_trigger(line: &Line, text: &str, file: &str) -> Result<(), Error> {
    for mut inner in dockerfile::split(text)? {
        (inner.line, inner.column) = (line.line, line.column);
        instruction::parse(&inner, file)?;
    }
    Ok(())
}

impl Plan {
    fn begin_stage(&mut self, name: Option<String>) -> Result<(), Error> {
        if name.is_some() && self.stages.iter().any(|stage| stage.name == name) {
            let name = name.unwrap_or_default();
            return Err(Error::Invalid(format!(
                "duplicate name {name}: a stage name already used"
            )));
        }
        if self.stages.len() == STAGES_MAX {
            return Err(Error::Invalid(format!("more than {STAGES_MAX} stages")));
        }
        let last = self.steps.len();
        self.stages.push(Stage { name, last });
        Ok(())
    }

    fn add(&mut self, line: Line, instruction: Instruction, args: &Args) {
        let index = self.steps.len();
        let stage = self.stages.len() - 1;
        let stage_end = match &instruction {
            Instruction::From { image, .. } => {
                let lookup = |name: &str| args.global(name);
                let image = expand::word(image, line.escape, &lookup).unwrap_or_default();
                self.stage_named(&image, stage)
                    .map(|found| self.stages[found].last)
            }
            Instruction::Copy(copy) => copy.from.as_deref().and_then(|from| {
                let number = from.parse().ok().filter(|number| *number < stage);
                let found = number.or_else(|| self.stage_named(from, stage));
                found.map(|found| self.stages[found].last)
            }),
            _ => None,
        };
        let is_first = matches!(instruction, Instruction::From { .. });
        let before = (!is_first).then(|| index - 1);
        self.stages[stage].last = index;
        self.steps.push(Step {
            line,
            instruction,
            needs: before.into_iter().chain(stage_end).collect(),
            before,
            stage_end,
            stage,
        });
    }

    fn stage_named(&self, name: &str, below: usize) -> Option<usize> {
        let fits = |stage: &Stage| {
            stage
                .name
                .as_deref()
                .is_some_and(|known| known.eq_ignore_ascii_case(name))
        };
        self.stages[..below].iter().rposition(fits)
    }

    fn find_target(&mut self, target: Option<&str>) -> Result<usize, Error> {
        let Some(last) = self.stages.len().checked_sub(1) else {
            return Err(Error::Invalid(
                "no build stage in current context".to_owned(),
            ));
        };
        let stage = match target.filter(|target| !target.is_empty()) {
            None => last,
            Some(name) => self
                .stage_named(name, last + 1)
                .or_else(|| name.parse().ok().filter(|number| *number <= last))
                .ok_or_else(|| {
                    Error::Invalid(format!("failed to reach build target {name} in Dockerfile"))
                })?,
        };
        self.target = self.stages[stage].last;
        Ok(stage)
    }

    fn add_labels(&mut self, stage: usize, labels: &BTreeMap<String, String>) {
        for (name, value) in labels {
            let index = self.steps.len();
            let line = Line {
                line: 0,
                column: 0,
                keyword: "LABEL".to_owned(),
                original: format!("LABEL {name}={value}"),
                flags: Vec::new(),
                rest: String::new(),
                heredocs: Vec::new(),
                escape: '\\',
            };
            // As it is: what the client says is not expanded.
            let quoted = |text: &str| format!("'{}'", text.replace('\'', "'\"'\"'"));
            self.steps.push(Step {
                line,
                instruction: Instruction::Label(vec![(quoted(name), quoted(value))]),
                needs: vec![self.target],
                before: Some(self.target),
                stage_end: None,
                stage,
            });
            self.target = index;
        }
    }

    /// Whether `--from` names a stage before the step's.
    pub fn names_stage(&self, step: usize, from: &str) -> bool {
        let stage = self.steps[step].stage;
        let is_number = from.parse().is_ok_and(|number: usize| number < stage);
        is_number || self.stage_named(from, stage).is_some()
    }

    /// Why `--from` can't be what it says; `None`: it may be an image.
    pub fn wrong_from(&self, step: usize, from: &str) -> Option<String> {
        let number: usize = from.parse().ok()?;
        let why = if number == self.steps[step].stage {
            "refers to current build stage"
        } else if number < self.steps[step].stage {
            return None;
        } else {
            "index out of bounds"
        };
        Some(format!("invalid from flag value {from}: {why}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(text: &str, target: Option<&str>) -> Result<Plan, Error> {
        make(
            text,
            "Dockerfile",
            Args::new(BTreeMap::new()),
            target,
            &BTreeMap::new(),
        )
    }

    #[test]
    fn connects_stages() {
        let text = "ARG B=one\nFROM x AS one\nRUN a\nFROM y AS two\nRUN b\nFROM $B AS three\nCOPY --from=1 /a /\nFROM z\nCOPY --from=THREE /a /\nCOPY --from=image:1 /b /\n";
        let whole = plan(text, None).unwrap();
        let needs: Vec<_> = whole.steps.iter().map(|step| step.needs.clone()).collect();
        let expected: [&[usize]; 9] = [&[], &[0], &[], &[2], &[1], &[4, 3], &[], &[6, 5], &[7]];
        assert_eq!(needs, expected);
        assert_eq!(whole.target, 8);
        assert_eq!(whole.globals.len(), 1);
        assert_eq!(plan(text, Some("Two")).unwrap().target, 3);
        assert_eq!(plan(text, Some("0")).unwrap().target, 1);
        let needed = crate::solve::needed(&needs, plan(text, Some("two")).unwrap().target);
        assert_eq!(needed, [2, 3]);
    }

    #[test]
    fn refuses_in_dockers_words() {
        let table = [
            ("", "the Dockerfile (Dockerfile) cannot be empty"),
            ("RUN x", "no build stage in current context"),
            ("ARG a", "no build stage in current context"),
            (
                "FROM a\nONBUILD FOO",
                "dockerfile parse error line 2: unknown instruction: FOO",
            ),
        ];
        for (text, expected) in table {
            assert_eq!(
                plan(text, None).unwrap_err().to_string(),
                expected,
                "{text}"
            );
        }
        assert_eq!(
            plan("FROM a", Some("nope")).unwrap_err().to_string(),
            "failed to reach build target nope in Dockerfile"
        );
        let plan = plan(
            "FROM a\nCOPY --from=0 x /\nCOPY --from=5 x /\nCOPY --from=b x /",
            None,
        )
        .unwrap();
        assert_eq!(
            plan.wrong_from(1, "0").unwrap(),
            "invalid from flag value 0: refers to current build stage"
        );
        assert_eq!(
            plan.wrong_from(2, "5").unwrap(),
            "invalid from flag value 5: index out of bounds"
        );
        assert_eq!(plan.wrong_from(3, "b"), None);
    }

    #[test]
    fn labels_come_last() {
        let labels = [("a", "b c"), ("z", "it's")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        let plan = make(
            "FROM a\nFROM b",
            "Dockerfile",
            Args::new(BTreeMap::new()),
            Some("0"),
            &labels.into(),
        )
        .unwrap();
        assert_eq!((plan.steps.len(), plan.target), (4, 3));
        assert_eq!(plan.steps[2].needs, [0]);
        assert_eq!(plan.steps[3].line.original, "LABEL z=it's");
    }
}
