//! The pages of the restore assistant.

use super::file_name::shown;
use super::view::size;
use super::words::{grouped, instant};
use super::{ErrorView, Frame, finish, frame};
use crate::dispatch::Call;
use crate::error::ApiError;
use crate::handlers::assistant::parameter;
use askama::Template;
use recovery::{BackupComponentView, BackupView, ComponentPlan};

/// What a page shows.
#[derive(Debug)]
pub(crate) struct AssistantView {
    pub backup: BackupView,
    /// Names of components.
    pub chosen: Vec<String>,
    /// What was named instead of them, the name that it gets, and the component that takes it; as it was typed.
    pub only: String,
    pub into: String,
    pub target: String,
    /// The instant, as it was typed.
    pub at: String,
    /// What would change; none on the first page.
    pub plans: Option<Vec<ComponentPlan>>,
    pub error: Option<ApiError>,
}

#[derive(Template)]
#[template(path = "assistant.html")]
struct ChoosePage {
    frame: Frame,
    error: Option<ErrorView>,
    action: String,
    boxes: Vec<Choice>,
    only: String,
    into: String,
    target: String,
    /// Which instants there are, if there are several.
    windows: Vec<String>,
    at: String,
}

struct Choice {
    parameter: String,
    name: String,
    place: String,
    is_chosen: bool,
}

#[derive(Template)]
#[template(path = "assistant_plan.html")]
struct PlanPage {
    frame: Frame,
    error: Option<ErrorView>,
    action: String,
    name: String,
    parameters: Vec<(String, String)>,
    only: String,
    into: String,
    target: String,
    at: String,
    rows: Vec<Row>,
    changes_nothing: bool,
    names: Vec<Names>,
}

/// The first names of what would happen to one component in one way.
struct Names {
    /// "Removed from content"
    title: String,
    names: Vec<String>,
    more: Option<String>,
    /// What would be lost is seen at once.
    is_open: bool,
}

/// Bytes of names on one page, which has to stay light.
const NAMES_BYTES_MAX: usize = 40_000;
/// Of a longer path its end is shown.
const NAME_CHARS_MAX: usize = 200;

struct Row {
    name: String,
    place: String,
    /// Why there are no figures.
    problem: Option<String>,
    made: String,
    changed: String,
    removed: String,
    unchanged: String,
    bytes: String,
}

pub(super) fn page(call: &Call, view: &AssistantView) -> String {
    let mut frame = frame(call);
    frame.title = format!("Restore {}", view.backup.name);
    let (error, action) = (view.error.as_ref().map(ErrorView::of), call.path());
    match &view.plans {
        None => {
            let boxes = view.backup.components.iter().map(|part| Choice {
                parameter: parameter(&part.name),
                name: part.name.clone(),
                place: part.place.clone(),
                is_chosen: view.chosen.contains(&part.name),
            });
            let window = |part: &BackupComponentView| {
                let window = part.facts.window?;
                Some(format!("{} from {} to {}", part.name, instant(window.from), instant(window.until)))
            };
            finish(&ChoosePage {
                frame,
                error,
                action,
                boxes: boxes.collect(),
                only: view.only.clone(),
                into: view.into.clone(),
                target: view.target.clone(),
                windows: view.backup.components.iter().filter_map(window).collect(),
                at: view.at.clone(),
            })
        }
        Some(plans) => finish(&PlanPage {
            frame,
            error,
            action,
            name: view.backup.name.clone(),
            parameters: parameters(view),
            only: view.only.clone(),
            into: view.into.clone(),
            target: view.target.clone(),
            at: view.at.clone(),
            rows: plans.iter().map(row).collect(),
            names: names(plans),
            changes_nothing: plans.iter().all(|plan| {
                plan.plan.as_ref().is_ok_and(|plan| plan.made + plan.made_equal + plan.removed == 0)
            }),
        }),
    }
}

/// What the second page sends again.
fn parameters(view: &AssistantView) -> Vec<(String, String)> {
    let boxes = view.chosen.iter().map(|name| (parameter(name), "true".to_owned()));
    let typed =
        [("only", &view.only), ("into", &view.into), ("target", &view.target), ("recoveryTime", &view.at)];
    let typed = typed.into_iter().filter(|(_, value)| !value.is_empty());
    boxes.chain(typed.map(|(name, value)| (name.to_owned(), value.clone()))).collect()
}

/// What would be added, changed and removed, by name; of each component and kind as much as there is room for.
fn names(plans: &[ComponentPlan]) -> Vec<Names> {
    let mut all = Vec::new();
    let parts = plans.iter().filter_map(|plan| Some((plan, plan.plan.as_ref().ok()?)));
    let lists: Vec<_> = parts
        .flat_map(|(plan, figures)| {
            [
                ("Removed from", &plan.names.removed, figures.removed),
                ("Changed in", &plan.names.made_equal, figures.made_equal),
                ("Added to", &plan.names.made, figures.made),
            ]
            .map(|(what, names, count)| (format!("{what} {}", plan.name), names, count))
        })
        .filter(|(.., count)| *count > 0)
        .collect();
    // An even share for each, so that the last one has room too.
    let share = NAMES_BYTES_MAX / lists.len().max(1);
    for (title, names, count) in lists {
        let (mut told, mut room) = (Vec::new(), share);
        for name in names {
            let text = ending(&shown(name.strip_prefix(b"/").unwrap_or(name)));
            // As the page escapes it.
            let bytes = text.len() + 5 * text.bytes().filter(|byte| b"&<>\"'".contains(byte)).count() + 12;
            let Some(rest) = room.checked_sub(bytes) else { break };
            room = rest;
            told.push(text);
        }
        let more = count.saturating_sub(told.len() as u64);
        all.push(Names {
            is_open: title.starts_with("Removed"),
            title,
            names: told,
            more: (more > 0).then(|| grouped(more)),
        });
    }
    all
}

/// The end of a path that is too long to be shown.
fn ending(path: &str) -> String {
    match path.char_indices().rev().nth(NAME_CHARS_MAX - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &path[at..]),
        _ => path.to_owned(),
    }
}

fn row(plan: &ComponentPlan) -> Row {
    let figures = plan.plan.clone().unwrap_or_default();
    Row {
        name: plan.name.clone(),
        place: plan.place.clone(),
        problem: plan.plan.as_ref().err().cloned(),
        made: grouped(figures.made),
        changed: grouped(figures.made_equal),
        removed: grouped(figures.removed),
        unchanged: grouped(figures.unchanged),
        bytes: size(figures.bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recovery::{PlannedNames, RestorePlan};

    fn plan(name: &str, removed: Vec<Vec<u8>>, count: u64) -> ComponentPlan {
        ComponentPlan {
            name: name.to_owned(),
            place: "/srv".to_owned(),
            plan: Ok(RestorePlan { removed: count, ..RestorePlan::default() }),
            names: PlannedNames { removed, ..PlannedNames::default() },
        }
    }

    #[test]
    fn names_are_told_as_far_as_there_is_room_and_the_rest_is_counted() {
        let told = names(&[plan("content", vec![b"/a/b.txt".to_vec(), b"/x\xff".to_vec()], 1234)]);
        assert_eq!((told.len(), told[0].title.as_str(), told[0].is_open), (1, "Removed from content", true));
        assert_eq!(told[0].names, ["a/b.txt", "x\\xff"]);
        assert_eq!(told[0].more.as_deref(), Some("1,232"));
        let long: Vec<Vec<u8>> = (0..50).map(|_| vec![b'&'; 4000]).collect();
        let plans: Vec<_> = (0..20).map(|n| plan(&n.to_string(), long.clone(), 50)).collect();
        let escaped: usize =
            names(&plans).iter().flat_map(|list| &list.names).map(|name| name.chars().count() * 5).sum();
        assert!(escaped <= NAMES_BYTES_MAX, "{escaped}");
        assert_eq!(ending(&"ä".repeat(NAME_CHARS_MAX)).chars().count(), NAME_CHARS_MAX);
        assert_eq!(ending(&"ä".repeat(300)).chars().count(), NAME_CHARS_MAX + 1);
    }
}
