-- The steps at which trials settled, by a rule that compares a trial with itself.
--
-- A curve is a trial's finite values with their steps, ascending. That of a trial that hasn't
-- ended isn't whole: nothing is known of it, not even what its steps exceed.
--
-- reads    trials(trial_id, status), metrics(trial_id, step, the two columns of the metric)
-- params   $trials       the trials
--          $train_value  column of the train metric
--          $test_value   column of the test metric
--          $t1           t1 by the curve train_steps, train_values
--          $t2           t2 by the curve test_steps, test_values
--          $asked        false where no row is wanted
-- grain    one row per trial that has ended with a logged step
-- columns  trial_id   text
--          t1         int, optimizer steps; null if it isn't known
--          t2         int, optimizer steps; null if it isn't known
--          last_step  int, optimizer steps; last logged one

select trial_id, $t1 as t1, $t2 as t2, last_step
from (
    select
        trial_id,
        list(step order by step) filter (isfinite(train_value)) as train_steps,
        list(train_value order by step) filter (isfinite(train_value)) as train_values,
        list(step order by step) filter (isfinite(test_value)) as test_steps,
        list(test_value order by step) filter (isfinite(test_value)) as test_values,
        max(step) as last_step
    from (
        select trial_id, step, $train_value as train_value, $test_value as test_value
        from metrics
        where $asked and trial_id in (
            select trial_id from $trials where status in ('generalized', 'censored', 'diverged')
        )
    )
    group by trial_id
) as curves
