/* Repeats, by several pods, beside operators and faults, then reconcile (Spin, Promela).
 *
 * Invariants, as docs/reliability.md names them:
 *   I1  a state is listed only if its record was in the topic's log at some moment of its request;
 *       reconcile settles a message only if that was so at some moment of its run;
 *   I6  in the end every state is listed, or settled by reconcile: no run ends before.
 *
 * The topic's one partition is a log that has at each moment one content: replication.pml is about how
 * three replicas keep it. A9 to A12 are the assumptions of docs/model.md.
 */

/* What keeps a memory from being believed too long: bridge/duplicates.py, and the supervisor. */
#ifndef CHECK_ID
#define CHECK_ID 1       /* Deduplicator._starts and ._forget_changes: the topic's id */
#endif
#ifndef CHECK_EPOCH
#define CHECK_EPOCH 1    /* Deduplicator._starts: the epoch of the partition's leader */
#endif
#ifndef CHECK_START
#define CHECK_START 1    /* RecentEvents.come_again: the log's first offset */
#endif
#ifndef START_FIRST
#define START_FIRST 1    /* bridge/kafka/supervisor.py, current_logs: offsets, only then describe */
#endif
#ifndef SEEN_BEFORE
#define SEEN_BEFORE 1    /* Deduplicator.publish: last_seen is read before the records are sent */
#endif
#ifndef ANSWER_FILLS
#define ANSWER_FILLS 1   /* Deduplicator._remember: only what the broker's answer has published */
#endif
#ifndef FRESH_METADATA
#define FRESH_METADATA 1 /* A10: the broker that describes the topic does not lag */
#endif
#ifndef ANSWER_COUNTS
#define ANSWER_COUNTS 1  /* bridge/kafka/publisher.py, _deliver */
#endif
#ifndef SETTLE_LAST
#define SETTLE_LAST 1    /* bridge/reconcile/asking.py, Account._take: settle after _publish */
#endif

#ifndef PODS
#define PODS 2
#endif
#ifndef STATES
#define STATES 1         /* each from a sender of its own */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 3       /* of each; the provider makes five */
#endif
#ifndef RECREATED
#define RECREATED 1      /* how often the topic is deleted and re-created */
#endif
#ifndef DELETED
#define DELETED 1        /* how often the log's beginning is removed: retention, DeleteRecords */
#endif
#ifndef CUTS
#define CUTS 1           /* unclean elections that cut off the log's end */
#endif
#ifndef ELECTIONS
#define ELECTIONS 1      /* clean ones */
#endif
#ifndef REPLACED
#define REPLACED 1       /* producers that are replaced */
#endif
#ifndef CRASHES
#define CRASHES 1        /* of pods, or of the reconcile run */
#endif

#define L (STATES * (ATTEMPTS + 2))
#define MEM(p, s) mem[(p) * STATES + (s)]

/* The topic as it is. */
byte topic_id = 1, epoch = 1, start, end_of;
byte log[L];                  /* the state of each record, from 1 */
byte former_id = 1, former_epoch = 1; /* what a broker that lags may still say */

/* A pod: a Deduplicator, its RecentEvents, and its supervisor. */
byte mem[PODS * STATES];      /* RecentEvents: the record's offset, from 1; 0: not remembered */
byte known_id[PODS], known_epoch[PODS]; /* Deduplicator._logs */
byte seen_id[PODS], seen_epoch[PODS];   /* Supervisor._logs, by the last probe */
byte generation[PODS];        /* Supervisor.generation */
byte own_generation[PODS];    /* Deduplicator._generation */
byte life[PODS];              /* how often it was started anew */

byte recreated, deleted, cuts, elections, replaced, crashes, settled_posts;
bool was_there[STATES];       /* at some moment of the request that is on now */
bool listed[STATES];          /* or settled */

inline look(s, i) {
    for (i : 0 .. L - 1) {
        was_there[s] = was_there[s] || (i >= start && i < end_of && log[i] == s + 1)
    }
    i = 0
}

inline append(s) {
    log[end_of] = s + 1; end_of++;
    was_there[s] = 1
}

inline forget(p, s) {
    for (s : 0 .. STATES - 1) { MEM(p, s) = 0 }
    s = 0
}

/* Operators, brokers, and the supervisors' probes. */
proctype World() {
    byte p, s, i;
end: do
    :: d_step { recreated < RECREATED ->
        recreated++; former_id = topic_id; former_epoch = epoch;
        topic_id++; epoch = 1; start = 0; end_of = 0;
        for (i : 0 .. L - 1) { log[i] = 0 }
        i = 0;
        printf("the topic is deleted and re-created, with the id %d\n", topic_id) }
    :: d_step { deleted < DELETED && start < end_of ->
        deleted++; start = end_of;
        printf("the records before offset %d are deleted\n", start) }
    :: d_step { cuts < CUTS && start < end_of ->
        cuts++; former_id = topic_id; former_epoch = epoch;
        end_of--; log[end_of] = 0; epoch++;
        printf("an unclean election: the log ends at %d, the leader's epoch is %d\n", end_of, epoch) }
    :: d_step { elections < ELECTIONS ->
        elections++; former_id = topic_id; former_epoch = epoch; epoch++;
        printf("an election: the leader's epoch is %d\n", epoch) }
    /* Supervisor._describe_topics, by the probe. */
    :: d_step { seen_id[0] != topic_id || seen_epoch[0] != epoch ->
        seen_id[0] = topic_id; seen_epoch[0] = epoch;
        printf("pod 0 probes: the topic has the id %d, its leader the epoch %d\n", topic_id, epoch) }
#if PODS > 1
    :: d_step { seen_id[1] != topic_id || seen_epoch[1] != epoch ->
        seen_id[1] = topic_id; seen_epoch[1] = epoch;
        printf("pod 1 probes: the topic has the id %d, its leader the epoch %d\n", topic_id, epoch) }
#endif
    /* Supervisor._attempt_with describes the topics, then _hand_out. */
    :: d_step { replaced < REPLACED ->
        replaced++; seen_id[0] = topic_id; seen_epoch[0] = epoch; generation[0]++;
        printf("pod 0 replaces its producer\n") }
    /* The memory goes with the process. */
    :: d_step { crashes < CRASHES ->
        crashes++; life[0]++; generation[0] = 1; own_generation[0] = 0;
        known_id[0] = 0; known_epoch[0] = 0; seen_id[0] = topic_id; seen_epoch[0] = epoch;
        forget(0, s);
        printf("pod 0 is killed, and another is started\n") }
    od
}

/* One state's sender, and Deduplicator.publish in the pod that takes it. */
proctype Post(byte me) {
    byte attempt = 1, p, its_life, its_generation, its_id, its_epoch, place, told_start, told_id, told_epoch, i, s;
next:
    if
    :: attempt > ATTEMPTS -> printf("state %d: the provider gives up\n", me); goto over
    :: else
    fi;
    select(p : 0 .. PODS - 1);
    printf("state %d: attempt %d goes to pod %d\n", me, attempt, p);
    d_step {
        printf("pod %d has state %d\n", p, me);
        its_life = life[p];
        was_there[me] = 0; look(me, i);
        /* _held */
        if
        :: generation[p] != own_generation[p] -> own_generation[p] = generation[p]; forget(p, s)
        :: else
        fi
    }
    if
    :: MEM(p, me) == 0 -> goto fresh
    :: else -> its_generation = own_generation[p]
    fi;
    /* _repeated: two questions, with anything in between. */
    if
    :: START_FIRST ->
        d_step { told_start = start; printf("pod %d asks: the log begins at %d\n", p, start) }
        d_step { told_id = topic_id; told_epoch = epoch; printf("pod %d asks: the topic has the id %d, its leader the epoch %d\n", p, topic_id, epoch) }
    :: !START_FIRST ->
        d_step { told_id = topic_id; told_epoch = epoch; printf("pod %d asks: the topic has the id %d, its leader the epoch %d\n", p, topic_id, epoch) }
        d_step { told_start = start; printf("pod %d asks: the log begins at %d\n", p, start) }
    :: !FRESH_METADATA ->
        d_step { told_start = start; printf("pod %d asks: the log begins at %d\n", p, start) }
        d_step { told_id = former_id; told_epoch = former_epoch; printf("pod %d asks a broker that lags: id %d, epoch %d\n", p, told_id, told_epoch) }
    :: skip -> goto fresh /* no answer within its share of the time: no proof */
    fi;
    if
    :: d_step { life[p] != its_life -> printf("state %d: no answer from the pod\n", me); attempt++ } goto next
    :: d_step { else ->
        /* _starts, and RecentEvents.come_again, which reads the memory anew. */
        if
        :: CHECK_ID && known_id[p] != told_id -> forget(p, s); place = 0
        :: else -> place = MEM(p, me)
        fi;
        if
        :: place > 0 && its_generation == generation[p] &&
            (!CHECK_EPOCH || known_epoch[p] == told_epoch) && (!CHECK_START || place > told_start) ->
            printf("pod %d holds state %d for a repeat of offset %d\n", p, me, place - 1)
        :: else -> place = 0
        fi;
        told_start = 0; told_id = 0; told_epoch = 0; its_generation = 0 }
    fi;
    if
    :: place > 0 -> place = 0; goto listed_
    :: else
    fi;
fresh:
    printf("state %d is to be written by pod %d\n", me, p);
    d_step { its_generation = generation[p]; its_id = seen_id[p]; its_epoch = seen_epoch[p] }
    if
    :: !ANSWER_COUNTS -> goto listed_
    :: else
    fi;
    if
    :: d_step { life[p] == its_life ->
        append(me); place = end_of;
        printf("state %d: appended at offset %d\n", me, place - 1) }
    :: printf("state %d, attempt %d: not sent in time\n", me, attempt); goto failed
    :: d_step { !ANSWER_FILLS && life[p] == its_life ->
        place = end_of + 1; printf("state %d, attempt %d: handed over, and never arrives\n", me, attempt) }
        goto remember
    fi;
    if
    :: d_step { life[p] == its_life -> printf("state %d: the broker's answer reaches pod %d\n", me, p) }
    :: printf("state %d, attempt %d: the broker's answer is lost\n", me, attempt); goto failed
    /* Sent again by the same producer: published, but the broker does not say where (_published). */
    :: d_step { life[p] == its_life && log[place - 1] == me + 1 && place <= end_of ->
        place = 0; printf("state %d: sent again, the broker has it\n", me) }
    :: life[p] != its_life -> goto failed
    fi;
remember:
    printf("state %d: what is known of it is kept\n", me);
    d_step {
        if
        :: !SEEN_BEFORE -> its_id = seen_id[p]; its_epoch = seen_epoch[p]
        :: else
        fi;
        /* _remember, and _forget_changes before it. */
        if
        :: life[p] == its_life && place > 0 && its_generation == generation[p] &&
            generation[p] == own_generation[p] ->
            if
            :: known_id[p] != its_id || known_epoch[p] != its_epoch -> forget(p, s)
            :: else
            fi;
            known_id[p] = its_id; known_epoch[p] = its_epoch;
            MEM(p, me) = place;
            printf("pod %d remembers state %d at offset %d of the topic %d, epoch %d\n", p, me, place - 1, its_id, its_epoch)
        :: else
        fi;
        place = 0; its_id = 0; its_epoch = 0; its_generation = 0
    }
    if
    :: !ANSWER_FILLS && !was_there[me] -> goto failed
    :: else
    fi;
listed_:
    if
    :: d_step { life[p] == its_life ->
        printf("state %d is listed\n", me);
        if
        :: !was_there[me] -> printf("BROKEN I1: state %d is listed, and was never there during its request\n", me)
        :: else
        fi;
        assert(was_there[me]);
        listed[me] = 1 }
        if
        :: goto over
        :: printf("state %d: the provider does not get the answer\n", me); listed[me] = 0; goto failed
        fi
    :: life[p] != its_life
    fi;
failed:
    printf("state %d: attempt %d was not listed\n", me, attempt);
    d_step { place = 0; its_id = 0; its_epoch = 0; its_generation = 0; attempt++ }
    goto next;
over:
    settled_posts++
}

/* bridge/reconcile/run.py, reconcile: when the provider has given up, for what was not listed. */
proctype Reconcile() {
    byte s, i;
    bool has, settled[STATES];
    settled_posts == STATES;
begin:  /* _read: a run that goes on reads the topic again; its journal has what is settled */
    s = 0;
    do
    :: s == STATES -> break
    :: s < STATES && (listed[s] || settled[s]) -> s++
    :: s < STATES && !listed[s] && !settled[s] ->
        d_step {
            was_there[s] = 0; look(s, i); has = was_there[s];
            printf("reconcile reads the topic: it has state %d: %d\n", s, has)
        }
        if
        :: has
        :: !has && SETTLE_LAST ->
            d_step { append(s); printf("reconcile publishes state %d\n", s) }
        :: !has && !SETTLE_LAST ->
            d_step { settled[s] = 1; printf("reconcile settles state %d\n", s) }
        fi;
        if
        :: d_step { crashes < CRASHES -> crashes++; has = 0; printf("reconcile is killed, and goes on\n") } goto begin
        :: true
        fi;
        if
        :: !SETTLE_LAST && !has -> d_step { append(s); printf("reconcile publishes state %d\n", s) }
        :: else
        fi;
        d_step {
            settled[s] = 1;
            printf("reconcile has settled state %d\n", s);
            assert(was_there[s])
        }
    od;
    printf("reconcile ends\n");
    /* I6 */
    d_step {
        for (s : 0 .. STATES - 1) {
            if
            :: !listed[s] && !was_there[s] -> printf("BROKEN I6: state %d is neither listed nor in the topic\n", s)
            :: else
            fi;
            assert(listed[s] || was_there[s])
        }
        s = 0
    }
}

init {
    byte p;
    atomic {
        for (p : 0 .. PODS - 1) { seen_id[p] = 1; seen_epoch[p] = 1; generation[p] = 1 }
        run World();
        for (p : 0 .. STATES - 1) { run Post(p) }
        run Reconcile()
    }
}
