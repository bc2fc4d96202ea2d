//! The roots of the two layouts of disaster recovery.

use crate::dispatch::Call;
use crate::error::ApiResult;
use crate::reply::Reply;
use serde_json::json;
use std::sync::Arc;

/// `disasterrecovery`
pub(crate) async fn root(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Json(json!({"operations": ["status"], "resources": ["stores", "settings"]})))
}

/// `disasterrecovery/backuprestore`, the layout of 10.9
pub(crate) async fn old_root(_call: Arc<Call>) -> ApiResult<Reply> {
    Ok(Reply::Json(json!({"operations": ["backup", "status"], "resources": ["backups"]})))
}
