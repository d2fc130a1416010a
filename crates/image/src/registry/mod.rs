//! Registries.
use crate::RegistryConfig;
#[derive(Debug)]
pub(crate) struct Registries {
    pub config: RegistryConfig,
}
impl Registries {
    pub(crate) fn new(config: RegistryConfig) -> Registries {
        Registries { config }
    }
}
