-- Every cell of the grid: its trials taken together, seeds as replicates.
--
-- A seed counts once it has a logged row; a failed one never does. A seed whose time isn't reached
-- has a place among the others, too:
--
--   known            the time lies between two logged steps
--   not yet          the time exceeds the last logged step
--   never memorized  nothing is known of the delay, which is at least 0
--   diverged         the time never comes
--   generalized_only no delay: the delay counts as 0
--
-- Medians are those of `sweeper.analysis.views.medians`. A cell has a delay or a bound of it only
-- if more than half of its seeds memorized, and a phase only if more than half of them are in it. So
-- a delay without a bound means that more than half of the seeds generalized.
--
-- reads    staging.trials(trial_id, cell_id, status, the paths of the config that differ)
--          staging.fixed(the other paths; one row), delays(all)
-- params   $config     the config's columns, of one of the cell's trials
--          $names      their names
--          $delay_low  what the delay of a seed is known to be at least, see DELAY_LOW
-- grain    one row per cell
-- columns  cell_id        text
--          task           struct
--          model          struct
--          regularizer    struct
--          selection      struct
--          optimizer      struct
--          ...            the other fields of the trainable's config
--          n_seeds        int; trials of the cell, ended or not
--          n_memorized    int; those with t1
--          n_generalized  int; those with t2
--          n_diverged     int
--          delay          int, optimizer steps; median, null where it isn't known
--          delay_low      int, optimizer steps; lower end of its interval
--          delay_high     int, optimizer steps; upper end of its interval, null: unbounded
--          delay_level    float; confidence level of that interval: 0.95 or more from six seeds on,
--                         0.75 with three; null without an interval
--          delay_bound    int, optimizer steps; lower bound of a median that isn't known
--          t1             int, optimizer steps; median, null where it isn't known
--          t1_bound       int, optimizer steps; as delay_bound
--          t2             int, optimizer steps; median, null where it isn't known
--          t2_bound       int, optimizer steps; as delay_bound
--          censored_share float, censored delays over all delays; null without any
--          phase          text; the phase of more than half of the seeds, else split; null while
--                         running seeds may decide it, and if no seed counts
--          agreement      float, share of the most frequent phase among the seeds that count

with seeds as materialized (
    select
        t.rowid as place,
        t.cell_id,
        t.status,
        d.*,
        d.last_step is not null and t.status <> 'failed' as counts,
        t.status = 'diverged' as never,
        middle(d.t1_lower, d.t1) as t1_middle,
        middle(d.t2_lower, d.t2) as t2_middle,
        if(d.phase = 'generalized_only', 0, d.estimate) as delay_middle,
        $delay_low as delay_least
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
        count(*) filter (counts) as n,
        count(*) filter (counts and t1 is not null and not never) as n_delays,
        seeds_median(list({
            'low': delay_least,
            'value': delay_middle,
            'high': case
                when delay_middle is null then null
                when t1 is null then 0
                else greatest(0, t2 - coalesce(t1_lower, 0))
            end
        }) filter (counts)) as delay,
        seeds_median(list({
            'low': case
                when never then null
                when t1 is null then coalesce(t1_after, 0)
                else coalesce(t1_lower, 0)
            end,
            'value': if(never, null, t1_middle),
            'high': if(never, null, t1)
        }) filter (counts)) as t1,
        seeds_median(list({
            'low': case
                when never then null
                when t2 is null then coalesce(t2_after, 0)
                else coalesce(t2_lower, 0)
            end,
            'value': if(never, null, t2_middle),
            'high': if(never, null, t2)
        }) filter (counts)) as t2,
        avg(censored::double) filter (delay is not null) as censored_share,
        count(phase) filter (counts) as n_phases
    from seeds
    group by cell_id
),
votes as (
    select cell_id, phase, count(*) as n_most
    from seeds
    where phase is not null and counts
    group by cell_id, phase
    qualify row_number() over (partition by cell_id order by n_most desc, phase) = 1
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
    if(2 * n_delays > n, round(k.delay.median), null)::bigint as delay,
    if(2 * n_delays > n, floor(k.delay.low), null)::bigint as delay_low,
    if(2 * n_delays > n, ceil(k.delay.high), null)::bigint as delay_high,
    if(2 * n_delays > n and n > 1, k.delay.level, null) as delay_level,
    if(2 * n_delays > n, floor(k.delay.bound), null)::bigint as delay_bound,
    round(k.t1.median)::bigint as t1,
    floor(k.t1.bound)::bigint as t1_bound,
    round(k.t2.median)::bigint as t2,
    floor(k.t2.bound)::bigint as t2_bound,
    censored_share,
    case
        when 2 * n_most > n then v.phase
        when 2 * (n_most + n - n_phases) > n and n > n_phases then null
        when n_phases > 0 then 'split'
    end as phase,
    if(n_phases > 0, n_most / n, null) as agreement
from medians as k
join configs using (place)
left join votes as v using (cell_id)
