//! What the runtime is and can do.

use std::collections::HashMap;

use tonic::Status;

use super::Local;
use super::sandbox::HANDLERS;
use crate::v1;

impl Local {
    pub(super) async fn version(
        &self,
        _request: v1::VersionRequest,
    ) -> Result<v1::VersionResponse, Status> {
        Ok(v1::VersionResponse {
            version: "0.1.0".to_owned(),
            runtime_name: "wharf".to_owned(),
            runtime_version: env!("CARGO_PKG_VERSION").to_owned(),
            runtime_api_version: "v1".to_owned(),
        })
    }

    pub(super) async fn status(
        &self,
        request: v1::StatusRequest,
    ) -> Result<v1::StatusResponse, Status> {
        let has_network = self.pod_cidr().is_some();
        let condition = |kind: &str, status, reason: &str, message: &str| v1::RuntimeCondition {
            r#type: kind.to_owned(),
            status,
            reason: reason.to_owned(),
            message: message.to_owned(),
        };
        let network = match has_network {
            true => condition("NetworkReady", true, "", ""),
            false => condition(
                "NetworkReady",
                false,
                "NetworkPluginNotReady",
                "pods have no range of addresses yet",
            ),
        };
        let features = v1::RuntimeHandlerFeatures {
            recursive_read_only_mounts: true,
            user_namespaces: false,
        };
        let handler = |name: &str| v1::RuntimeHandler {
            name: name.to_owned(),
            features: Some(features),
        };
        let mut info = HashMap::new();
        if request.verbose {
            let cidr = self.pod_cidr().map(|cidr| cidr.to_string());
            info.insert(
                "config".to_owned(),
                serde_json::json!({"podCIDR": cidr}).to_string(),
            );
        }
        Ok(v1::StatusResponse {
            status: Some(v1::RuntimeStatus {
                conditions: vec![condition("RuntimeReady", true, "", ""), network],
            }),
            info,
            runtime_handlers: HANDLERS.iter().map(|name| handler(name)).collect(),
            features: Some(v1::RuntimeFeatures {
                supplemental_groups_policy: true,
                ..Default::default()
            }),
        })
    }

    pub(super) async fn runtime_config(
        &self,
        _request: v1::RuntimeConfigRequest,
    ) -> Result<v1::RuntimeConfigResponse, Status> {
        Ok(v1::RuntimeConfigResponse {
            linux: Some(v1::LinuxRuntimeConfiguration {
                cgroup_driver: v1::CgroupDriver::Cgroupfs.into(),
            }),
        })
    }
}
