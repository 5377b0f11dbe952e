-- The first logged steps from which on trials stay near their own final value for a while.
--
-- The final value is the mean of the last $final values. Null where a trial doesn't stay near it
-- for $stable values before those. A trial that hasn't ended has no row: nothing is known of it,
-- not even what its steps exceed.
--
-- reads    trials(trial_id, status), metrics(trial_id, step, the two columns of the metric)
-- params   $trials       the trials
--          $train_value  column of the train metric
--          $test_value   column of the test metric
--          $final        values that the final value is the mean of
--          $stable       consecutive values that have to be near it
--          $tolerance    how far from the final value is near, as a share of it
--          $asked        false where no row is wanted
-- grain    one row per trial that has ended with a logged step
-- columns  trial_id   text
--          t1         int, optimizer steps; null if it isn't known
--          t2         int, optimizer steps; null if it isn't known
--          last_step  int, optimizer steps; last logged one
--          logged     int; logged steps
--          digest     int; fingerprint of them, as in staging.logged

with curves as (
    select trial_id, step, $train_value as train_value, $test_value as test_value
    from metrics
    where $asked and trial_id in (
        select trial_id from $trials where status in ('generalized', 'censored', 'diverged')
    )
),
ends as (
    select
        trial_id,
        list_sum(list_reverse(
            arg_max(train_value, step, $final) filter (train_value is not null)
        )) / $final as train_final,
        list_sum(list_reverse(
            arg_max(test_value, step, $final) filter (test_value is not null)
        )) / $final as test_final,
        list_min(max(step, $final) filter (train_value is not null)) as train_begins,
        list_min(max(step, $final) filter (test_value is not null)) as test_begins,
        max(step) as last_step,
        count(*) as logged,
        bit_xor(hash(step)) as digest
    from curves
    group by trial_id
),
train as (
    select
        trial_id,
        step,
        bool_and(abs(train_value - train_final) <= $tolerance * abs(train_final)) over w
            and count(*) over w = $stable as stays
    from curves
    join ends using (trial_id)
    where train_value is not null and step < train_begins
    window w as (
        partition by trial_id order by step rows between current row and $stable - 1 following
    )
),
test as (
    select
        trial_id,
        step,
        bool_and(abs(test_value - test_final) <= $tolerance * abs(test_final)) over w
            and count(*) over w = $stable as stays
    from curves
    join ends using (trial_id)
    where test_value is not null and step < test_begins
    window w as (
        partition by trial_id order by step rows between current row and $stable - 1 following
    )
)
select trial_id, a.t1, b.t2, last_step, logged, digest
from ends
left join (select trial_id, min(step) as t1 from train where stays group by trial_id) as a
    using (trial_id)
left join (select trial_id, min(step) as t2 from test where stays group by trial_id) as b
    using (trial_id)
