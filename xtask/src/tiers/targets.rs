//! Which test targets the workspace has for a tier, and the binaries that cargo makes of them.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::everywhere::cargo;
use crate::sh;

/// The feature that turns on targets which attach to a kernel.
const FEATURE: &str = "live-tests";

/// A test target of a package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) package: String,
    pub(super) name: String,
}

/// A built test binary.
#[derive(Debug)]
pub(super) struct Binary {
    pub(super) target: Target,
    pub(super) path: PathBuf,
    /// The package's folder.
    pub(super) folder: PathBuf,
}

/// The test targets with one of these names.
pub(super) fn find(names: &[&str]) -> Result<Vec<Target>> {
    let metadata = sh::output(cargo().args(["metadata", "--no-deps", "--format-version=1"]))?;
    let metadata: Value = serde_json::from_str(&metadata)?;
    let mut found = Vec::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        for target in package["targets"].as_array().into_iter().flatten() {
            let is_test =
                target["kind"].as_array().is_some_and(|kinds| kinds.iter().any(|kind| kind == "test"));
            let name = target["name"].as_str().unwrap_or_default();
            if is_test && names.contains(&name) {
                let package = package["name"].as_str().unwrap_or_default().to_owned();
                found.push(Target { package, name: name.to_owned() });
            }
        }
    }
    Ok(found)
}

/// Builds the targets; `adjust` sets flags and folders.
pub(super) fn build(targets: &[Target], adjust: impl Fn(&mut Command)) -> Result<Vec<Binary>> {
    let mut cmd = cargo();
    cmd.args(["test", "--no-run", "--message-format=json-render-diagnostics"]);
    let mut once = |flag: &str, values: Vec<String>| {
        let mut values = values;
        values.sort();
        values.dedup();
        for value in values {
            cmd.args([flag, &value]);
        }
    };
    once("--package", targets.iter().map(|target| target.package.clone()).collect());
    once("--test", targets.iter().map(|target| target.name.clone()).collect());
    once("--features", targets.iter().map(|target| format!("{}/{FEATURE}", target.package)).collect());
    adjust(&mut cmd);
    let mut binaries = Vec::new();
    for message in artifacts(&mut cmd)? {
        let (Some(path), Some(name)) = (message["executable"].as_str(), message["target"]["name"].as_str())
        else {
            continue;
        };
        let manifest = PathBuf::from(message["manifest_path"].as_str().unwrap_or_default());
        let folder = manifest.parent().map(PathBuf::from).unwrap_or_default();
        let package = targets.iter().filter(|target| target.name == name).find(|target| {
            // A package id ends in `#name@version`, or in `/folder#version` when folder and package have the same name.
            let id = message["package_id"].as_str().unwrap_or_default();
            id.contains(&format!("#{}@", target.package)) || id.contains(&format!("/{}#", target.package))
        });
        if let Some(target) = package {
            binaries.push(Binary { target: target.clone(), path: path.into(), folder });
        }
    }
    Ok(binaries)
}

/// Builds the agent and says where it is.
pub(super) fn agent(adjust: impl Fn(&mut Command)) -> Result<PathBuf> {
    let mut cmd = cargo();
    cmd.args([
        "build",
        "--package",
        "kprobe-agent",
        "--bin",
        "kprobe-agent",
        "--message-format=json-render-diagnostics",
    ]);
    adjust(&mut cmd);
    artifacts(&mut cmd)?
        .iter()
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo built no binary kprobe-agent")
}

/// What cargo says that it built.
pub(super) fn artifacts(cmd: &mut Command) -> Result<Vec<Value>> {
    let said = sh::output(cmd)?;
    let messages = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    Ok(messages.filter(|message| message["reason"] == "compiler-artifact").collect())
}
