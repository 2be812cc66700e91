//! Tests of the ECS operations over a state in memory: requests and answers are the JSON of the API.

mod clusters;
mod definitions;
mod lists;
mod members;
mod refusals;
mod run;
mod services;
mod tasks;
mod world;
