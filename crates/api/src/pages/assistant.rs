//! The pages of the restore assistant.

use super::view::size;
use super::words::grouped;
use super::{ErrorView, Frame, finish, frame};
use crate::dispatch::Call;
use crate::error::ApiError;
use crate::handlers::assistant::parameter;
use askama::Template;
use recovery::{BackupView, ComponentPlan};

/// What a page shows.
#[derive(Debug)]
pub(crate) struct AssistantView {
    pub backup: BackupView,
    /// Names of components.
    pub chosen: Vec<String>,
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
    parameters: Vec<String>,
    rows: Vec<Row>,
    changes_nothing: bool,
}

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
            finish(&ChoosePage { frame, error, action, boxes: boxes.collect() })
        }
        Some(plans) => finish(&PlanPage {
            frame,
            error,
            action,
            name: view.backup.name.clone(),
            parameters: view.chosen.iter().map(|name| parameter(name)).collect(),
            rows: plans.iter().map(row).collect(),
            changes_nothing: plans.iter().all(|plan| {
                plan.plan.as_ref().is_ok_and(|plan| plan.made + plan.made_equal + plan.removed == 0)
            }),
        }),
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
