// Declares a dashboard to be what Grafana's own types say: the compiler refuses what is not.
import type {
  Dashboard,
  FieldConfig,
  Panel,
  RowPanel,
} from "@grafana/schema/dist/esm/raw/dashboard/x/Dashboard_types.gen";
import type { Options as StatOptions } from "@grafana/schema/dist/esm/raw/composable/stat/panelcfg/x/StatPanelCfg_types.gen";
import type {
  FieldConfig as TableFields,
  Options as TableOptions,
} from "@grafana/schema/dist/esm/raw/composable/table/panelcfg/x/TablePanelCfg_types.gen";
import type {
  FieldConfig as LineFields,
  Options as LineOptions,
} from "@grafana/schema/dist/esm/raw/composable/timeseries/panelcfg/x/TimeSeriesPanelCfg_types.gen";

// As JSON has it: words where the types have enums, and no more than differs from the defaults.
type Json<T> = T extends string
  ? `${T}`
  : T extends Array<infer Each>
    ? Array<Json<Each>>
    : T extends object
      ? { [Key in keyof T]?: Json<T[Key]> }
      : T;

// Grafana's type of a panel leaves what each kind of panel has of its own open.
type Shown<Kind, Options, Fields> = Json<Omit<Panel, "type" | "options" | "fieldConfig">> & {
  id: number;
  type: Kind;
  title: string;
  options: Json<Options>;
  fieldConfig: {
    defaults: Json<Omit<FieldConfig, "custom">> & { custom?: Json<Fields> };
    overrides: NonNullable<Panel["fieldConfig"]>["overrides"];
  };
};
type Ours =
  | (Json<RowPanel> & { type: "row" })
  | Shown<"stat", StatOptions, never>
  | Shown<"table", TableOptions, TableFields>
  | Shown<"timeseries", LineOptions, LineFields>;

// The text of a query as the settings show it is an addition of the Prometheus data source's.
type Variable = NonNullable<NonNullable<Dashboard["templating"]>["list"]>[number];
type Variables = { templating: { list: Array<Json<Variable> & { definition?: string }> } };

export const dashboard: Json<Omit<Dashboard, "panels" | "templating">> &
  Variables & { panels: Ours[] } = {} /* dashboard */;
