-- The first logged steps from which on trials stay near their own final value for a while.
--
-- The final value is the mean of the last $final values. Null where a trial doesn't stay near it
-- for $stable values before those. A trial that hasn't ended has no row: nothing is known of it,
-- not even what its steps exceed.
--
-- reads    $curves: the query for rows (trial_id, step, train_value, test_value) of ended trials
-- params   $rising     whether the metric is better when larger
--          $final      values that the final value is the mean of
--          $stable     consecutive values that have to be near it
--          $tolerance  how far from the final value is near, as a share of it
--          $floor      as in best.sql, of the final value
-- grain    one row per trial that has ended with a logged step
-- columns  as in firsts.sql

with curves as (
$curves
),
ends as (
    select
        trial_id,
        list_sum(list_reverse(
            arg_max(train_value, step, $final) filter (isfinite(train_value))
        )) / $final as train_final,
        list_sum(list_reverse(
            arg_max(test_value, step, $final) filter (isfinite(test_value))
        )) / $final as test_final,
        list_min(max(step, $final) filter (isfinite(train_value))) as train_begins,
        list_min(max(step, $final) filter (isfinite(test_value))) as test_begins,
        arg_min(train_value, step) filter (isfinite(train_value)) as train_first,
        arg_min(test_value, step) filter (isfinite(test_value)) as test_first,
        if($rising, train_final >= 1.0 - $floor * (1.0 - train_first),
            train_final <= train_first - (1.0 - $floor) * abs(train_first)) as train_good,
        if($rising, test_final >= 1.0 - $floor * (1.0 - test_first),
            test_final <= test_first - (1.0 - $floor) * abs(test_first)) as test_good,
        max(step) filter (isfinite(train_value)) as train_after,
        max(step) filter (isfinite(test_value)) as test_after,
        max(step) as last_step,
        count(*) as logged,
        count(*) filter (isfinite(train_value) and isfinite(test_value)) < count(*) as gaps,
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
    where isfinite(train_value) and step < train_begins and train_good
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
    where isfinite(test_value) and step < test_begins and test_good
    window w as (
        partition by trial_id order by step rows between current row and $stable - 1 following
    )
)
select
    trial_id,
    a.t1,
    b.t2,
    if(a.t1 is null, train_after, null) as t1_past,
    if(b.t2 is null, test_after, null) as t2_past,
    false as plain,
    last_step,
    logged,
    gaps,
    digest
from ends
left join (select trial_id, min(step) as t1 from train where stays group by trial_id) as a
    using (trial_id)
left join (select trial_id, min(step) as t2 from test where stays group by trial_id) as b
    using (trial_id)
