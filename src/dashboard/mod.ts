/**
 * A page that shows a run while it goes on, and the trajectories of a file.
 *
 * @module
 */
export { type ActingEngine, actionsOf, type DashboardActions } from "./actions.ts";
export { type Dashboard, type DashboardOptions, openDashboard } from "./dashboard.ts";
export { type PlotOptions, plotPng, type PlotSeries, plotSvg } from "./plot/plot.ts";
