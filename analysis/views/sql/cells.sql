-- Every cell of the grid: its trials taken together, seeds as replicates.
--
-- Medians are Kaplan-Meier's: a censored seed counts as long as it is known to last. Diverged
-- seeds have no delay and don't enter t1 and t2.
--
-- reads    staging.trials(trial_id, cell_id, status, the paths of the config that differ)
--          staging.fixed(the other paths; one row), delays(all but the lower ends)
-- params   $config  the config's columns, of one of the cell's trials
--          $names   their names
--          $phases  the phases, in the order in which ties are broken
-- grain    one row per cell
-- columns  cell_id        text
--          task           struct
--          model          struct
--          regularizer    struct
--          selection      struct
--          optimizer      struct
--          ...            what else the trainable's config has
--          n_seeds        int; trials of the cell, ended or not
--          n_memorized    int; those with t1
--          n_generalized  int; those with t2
--          n_diverged     int
--          delay          int, optimizer steps; median, null when it isn't reached
--          delay_low      int, optimizer steps; lower end of its 95 % interval, null: unbounded
--          delay_high     int, optimizer steps; upper end of its 95 % interval, null: unbounded
--          delay_bound    int, optimizer steps; what the median exceeds where it isn't reached
--          t1             int, optimizer steps; median, null when it isn't reached
--          t1_bound       int, optimizer steps; as delay_bound
--          t2             int, optimizer steps; median, null when it isn't reached
--          t2_bound       int, optimizer steps; as delay_bound
--          censored_share float, censored delays over all delays; null without any
--          phase          text; what most seeds with a phase are; null without any
--          agreement      float, share of the seeds with a phase that are in this one

with seeds as materialized (
    select
        t.rowid as place, t.cell_id, t.status, d.t1, d.t2, d.delay, d.censored, d.phase,
        t.status <> 'diverged' and d.last_step is not null as counts,
        time_code(d.delay, d.censored) as delay_code,
        time_code(coalesce(d.t1, d.last_step), d.t1 is null) as t1_code,
        time_code(coalesce(d.t2, d.last_step), d.t2 is null) as t2_code
    from staging.trials as t
    join delays as d using (trial_id)
),
medians as (
    select
        cell_id,
        min(place) as place,
        count(*) as n_seeds,
        count(t1) as n_memorized,
        count(t2) as n_generalized,
        count(*) filter (status = 'diverged') as n_diverged,
        survival(list(delay_code) filter (delay is not null)) as delay,
        survival(list(t1_code) filter (counts)) as t1,
        survival(list(t2_code) filter (counts)) as t2,
        avg(censored::double) filter (delay is not null) as censored_share,
        count(phase) as n_phases
    from seeds
    group by cell_id
),
votes as (
    select cell_id, phase, count(*) as n
    from seeds
    where phase is not null
    group by cell_id, phase
    qualify row_number() over (
        partition by cell_id order by n desc, list_position($phases, phase)
    ) = 1
),
configs as (
    select t.rowid as place, $config
    from staging.trials as t
    cross join staging.fixed as f
)
select
    k.cell_id,
    $names,
    n_seeds,
    n_memorized,
    n_generalized,
    n_diverged,
    k.delay.median as delay,
    k.delay.low as delay_low,
    k.delay.high as delay_high,
    k.delay.bound as delay_bound,
    k.t1.median as t1,
    k.t1.bound as t1_bound,
    k.t2.median as t2,
    k.t2.bound as t2_bound,
    censored_share,
    v.phase,
    v.n / n_phases as agreement
from medians as k
join configs using (place)
left join votes as v using (cell_id)
