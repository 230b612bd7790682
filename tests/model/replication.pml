/* A record from its post to the answer, over one partition with three replicas (Spin, Promela).
 *
 * Invariants, as docs/reliability.md names them:
 *   I1  what was listed is in the log of whoever leads: when it is listed, and whenever a leader
 *       begins later;
 *   I6  once the faults are over every post that goes on is listed: no run ends before.
 *
 * The brokers are Kafka's with KRaft; A1 to A8 are the assumptions of docs/model.md. The bridge's part
 * is small here: the producer's settings and what it takes for an acknowledgement. Its pods are not
 * told apart: of what they remember, suppression.pml speaks. Each post is a producer of its own.
 */

#ifndef ACKS_ALL
#define ACKS_ALL 1       /* bridge/kafka/producer.py, Producer.open: acks="all" */
#endif
#ifndef MIN_INSYNC
#define MIN_INSYNC 2     /* what bridge/kafka/admin.py, TopicDescription.at_risk, asks of a topic */
#endif
#ifndef UNCLEAN
#define UNCLEAN 0        /* unclean.leader.election.enable; at_risk as well */
#endif
#ifndef ANSWER_COUNTS
#define ANSWER_COUNTS 1  /* bridge/kafka/publisher.py, _deliver: published by the answer alone */
#endif
#ifndef UNKNOWN_IS_NOT_LISTED
#define UNKNOWN_IS_NOT_LISTED 1 /* bridge/ack.py, acknowledged: neither failed nor unknown */
#endif
#ifndef POSTS
#define POSTS 2          /* states, each from a sender of its own, at once */
#endif
#ifndef ATTEMPTS
#define ATTEMPTS 2       /* of each; the provider makes five */
#endif
#ifndef CRASHES
#define CRASHES 2        /* of brokers */
#endif
#ifndef LOST_LOGS
#define LOST_LOGS 0      /* so many crashes take the replica's log with them: disk, or power */
#endif
#ifndef ISOLATED
#define ISOLATED 1       /* leaders that go on, cut off from the controller, which elects another */
#endif
#ifndef SHRINKS
#define SHRINKS 1        /* followers that the leader drops because they lag */
#endif

#define R 3
#define L (POSTS * ATTEMPTS)
#define EPOCHS (CRASHES + ISOLATED + 2)
#define NOBODY R
#define AT(r, i) log[(r) * L + (i)]
#define TOLD(l, f) told[(l) * R + (f)]
#define IN(set, r) (((set) >> (r)) & 1)
#define ONE(r) (1 << (r))
#define SIZE(set) (IN(set, 0) + IN(set, 1) + IN(set, 2))
/* A record: the epoch in which it was appended, its post, and which attempt sent it. */
#define RECORD(epoch, post, attempt) (((epoch) << 4) | ((post) << 2) | (attempt))
#define BATCH(record) ((record) & 15)           /* what idempotence knows it by */
#define POST(record) (((record) >> 2) & 3)

/* The replicas. */
byte log[R * L];
byte end_of[R];
byte told[R * R];        /* told[l, f]: how far f's log reaches, as l knows by f's last fetch */
byte leads[R];           /* the epoch in which this broker believes to lead; 0: it does not */
byte knows[R];           /* the epoch of the leader that it fetches from; 0: none yet */
byte began[R];           /* where its log ended when it began to lead */
byte former_isr[R];      /* the in-sync set as a leader knew it when it was replaced */
bool up[R];
bool cut_off[R];         /* from the controller alone */

/* The controller. */
bool fenced[R];
byte leader = NOBODY;
byte epoch;
byte leader_in[EPOCHS];
byte isr = 7;

/* The faults so far, and what was listed. */
byte crashes, lost, isolated, shrinks;
bool listed[POSTS];

#define LEADS_NOW(r) (leads[r] == epoch && leader == (r) && !cut_off[r])
/* Only with the controller does the in-sync set change (KIP-497). */
#define ISR_OF(r) (LEADS_NOW(r) -> isr : former_isr[r])
#define REACHES(l, f, end) ((l) == (f) || TOLD(l, f) >= (end) || !IN(ISR_OF(l), f))
#define ALL_REACH(l, end) (REACHES(l, 0, end) && REACHES(l, 1, end) && REACHES(l, 2, end))
/* Partition.checkEnoughReplicasReachOffset, of acks=all. With acks=1 the append suffices. */
#define IS_TAKEN(l, end) (!ACKS_ALL || (ALL_REACH(l, end) && SIZE(ISR_OF(l)) >= MIN_INSYNC))

/* I1. To be used in a d_step. */
inline nothing_listed_is_gone(i, j, found) {
    if
    :: leader != NOBODY && up[leader] && LEADS_NOW(leader) ->
        for (i : 0 .. POSTS - 1) {
            found = !listed[i];
            for (j : 0 .. L - 1) {
                found = found || (j < end_of[leader] && POST(AT(leader, j)) == i)
            }
            if
            :: !found -> printf("BROKEN I1: post %d is listed, and the leader %d does not have it\n", i, leader)
            :: else
            fi;
            assert(found)
        }
    :: else
    fi;
    i = 0; j = 0; found = 0
}

inline cut(r, from, j) {
    for (j : 0 .. L - 1) {
        if
        :: j >= from -> AT(r, j) = 0
        :: else
        fi
    }
    if
    :: end_of[r] > from -> end_of[r] = from
    :: else
    fi;
    j = 0
}

inline forget_fetches(l, j) {
    for (j : 0 .. R - 1) { TOLD(l, j) = 0 }
    j = 0
}

/* One broker, in what it does by itself and what happens to it. */
proctype Broker(byte me) {
    byte i, j, l;
    bool found;
end: do
    /* It learns who leads. If it does, its log stays as it is. */
    :: d_step { up[me] && !cut_off[me] && leader == me && leads[me] != epoch ->
        leads[me] = epoch; knows[me] = epoch; began[me] = end_of[me];
        forget_fetches(me, j);
        printf("broker %d leads, epoch %d, its log ends at %d\n", me, epoch, end_of[me]);
        nothing_listed_is_gone(i, j, found) }
    /* If another does, it cuts off what that one does not have (A4). */
    :: d_step { up[me] && !cut_off[me] && leader != me && leader != NOBODY && knows[me] != epoch &&
        up[leader] && leads[leader] == epoch ->
        leads[me] = 0; knows[me] = epoch; former_isr[me] = 0; began[me] = 0;
        forget_fetches(me, j);
        i = 0;
        do
        :: i < end_of[me] && i < end_of[leader] && AT(me, i) == AT(leader, i) -> i++
        :: else -> break
        od;
        cut(me, i, j);
        printf("broker %d follows %d, its log ends at %d\n", me, leader, i);
        i = 0 }
    /* It fetches: the leader learns how far its log reached, and it gets one record (A3). */
    :: d_step { up[me] && knows[me] > 0 && leader_in[knows[me]] != me &&
        up[leader_in[knows[me]]] && leads[leader_in[knows[me]]] == knows[me] &&
        (end_of[me] < end_of[leader_in[knows[me]]] || TOLD(leader_in[knows[me]], me) != end_of[me]) ->
        l = leader_in[knows[me]];
        TOLD(l, me) = end_of[me];
        if
        :: end_of[me] < end_of[l] -> AT(me, end_of[me]) = AT(l, end_of[me]); end_of[me]++
        :: else
        fi;
        printf("broker %d fetches from %d, its log ends at %d\n", me, l, end_of[me]);
        l = 0 }
    /* As the leader it drops who lags, and takes back who has caught up (A5). */
    :: d_step { shrinks < SHRINKS && up[me] && LEADS_NOW(me) &&
        !ALL_REACH(me, end_of[me]) ->
        shrinks++;
        for (i : 0 .. R - 1) {
            if
            :: !REACHES(me, i, end_of[me]) -> isr = isr & (7 - ONE(i))
            :: else
            fi
        }
        printf("leader %d drops those that lag: in sync (0, 1, 2): %d%d%d\n", me, IN(isr, 0), IN(isr, 1), IN(isr, 2));
        i = 0 }
    :: d_step { up[me] && knows[me] == epoch && leader != me && leader != NOBODY && !fenced[me] &&
        !IN(isr, me) && up[leader] && LEADS_NOW(leader) &&
        TOLD(leader, me) >= began[leader] &&
        (TOLD(leader, me) == end_of[leader] || !ALL_REACH(leader, TOLD(leader, me) + 1)) ->
        isr = isr | ONE(me);
        printf("broker %d is in sync again (0, 1, 2): %d%d%d\n", me, IN(isr, 0), IN(isr, 1), IN(isr, 2)) }
    /* It crashes: the operating system has what it wrote, unless disk or power go with it (A2). */
    :: d_step { crashes < CRASHES && up[me] ->
        crashes++; up[me] = 0; leads[me] = 0; knows[me] = 0; former_isr[me] = 0; began[me] = 0;
        forget_fetches(me, j);
        printf("broker %d crashes\n", me) }
    :: d_step { lost < LOST_LOGS && crashes < CRASHES && up[me] && end_of[me] > 0 ->
        crashes++; lost++; up[me] = 0; leads[me] = 0; knows[me] = 0; former_isr[me] = 0; began[me] = 0;
        forget_fetches(me, j);
        cut(me, 0, j);
        printf("broker %d crashes, and its log is lost\n", me) }
    /* The controller notices; the last one in sync stays that (A6). */
    :: d_step { !fenced[me] && (!up[me] || (isolated < ISOLATED && leader == me && leads[me] == epoch)) ->
        fenced[me] = 1;
        if
        :: up[me] -> isolated++; cut_off[me] = 1; former_isr[me] = isr
        :: else
        fi;
        if
        :: isr != ONE(me) -> isr = isr & (7 - ONE(me))
        :: else
        fi;
        if
        :: leader == me -> leader = NOBODY
        :: else
        fi;
        printf("the controller takes broker %d for gone (it is up: %d): in sync (0, 1, 2): %d%d%d\n", me, up[me], IN(isr, 0), IN(isr, 1), IN(isr, 2)) }
    /* It comes back once it is fenced (A7). */
    :: d_step { fenced[me] && (!up[me] || cut_off[me]) ->
        up[me] = 1; cut_off[me] = 0; fenced[me] = 0;
        printf("broker %d is back, its log ends at %d\n", me, end_of[me]) }
    /* It is elected: from those in sync (A5); unclean, if none of them is there. */
    :: d_step { leader == NOBODY && !fenced[me] && epoch < EPOCHS - 1 &&
        (IN(isr, me) ||
            (UNCLEAN && !(IN(isr, 0) && !fenced[0]) && !(IN(isr, 1) && !fenced[1]) &&
                !(IN(isr, 2) && !fenced[2]))) ->
        if
        :: IN(isr, me) -> printf("the controller elects %d, in sync (0, 1, 2): %d%d%d\n", me, IN(isr, 0), IN(isr, 1), IN(isr, 2))
        :: else -> isr = ONE(me); printf("the controller elects %d, which was not in sync\n", me)
        fi;
        leader = me; epoch++; leader_in[epoch] = me }
    od
}

/* One state's sender, and the pod that takes it: bridge/kafka/publisher.py, Publisher._deliver. */
proctype Post(byte me) {
    byte attempt = 1, to = NOBODY, in_epoch, place, i, j;
    bool found;
send:
    if
    /* To whoever leads, as he believes (Partition.appendRecordsToLeader). A batch that is sent again,
     * and is in the log, is not appended again (A8). */
    :: d_step { leads[0] > 0 && up[0] -> to = 0 }
    :: d_step { leads[1] > 0 && up[1] -> to = 1 }
    :: d_step { leads[2] > 0 && up[2] -> to = 2 }
    :: attempt < ATTEMPTS -> goto late
    fi;
    if
    :: d_step { up[to] && leads[to] > 0 && (!ACKS_ALL || SIZE(ISR_OF(to)) >= MIN_INSYNC) ->
        place = 0;
        do
        :: place < end_of[to] && BATCH(AT(to, place)) != BATCH(RECORD(0, me, attempt)) -> place++
        :: else -> break
        od;
        in_epoch = leads[to];
        if
        :: place == end_of[to] ->
            AT(to, place) = RECORD(in_epoch, me, attempt); end_of[to]++;
            printf("post %d, attempt %d: broker %d appends it at %d\n", me, attempt, to, place)
        :: else -> printf("post %d, attempt %d: broker %d has it at %d\n", me, attempt, to, place)
        fi }
    :: d_step { !up[to] || leads[to] == 0 -> to = NOBODY } goto send
    :: attempt < ATTEMPTS -> goto late
    fi;
    if
    :: !ANSWER_COUNTS -> goto listed_
    :: else
    fi;
    if
    :: d_step { up[to] && leads[to] == in_epoch && IS_TAKEN(to, place + 1) ->
        printf("post %d: broker %d answers that it is taken\n", me, to) } goto listed_
    :: d_step { !up[to] || leads[to] != in_epoch -> to = NOBODY; place = 0; in_epoch = 0 } goto send
    :: attempt < ATTEMPTS -> goto late
    fi;
late:   /* publisher.py, HANDED_OVER: the answer has not come by the deadline */
    printf("post %d, attempt %d: no answer in time\n", me, attempt);
    d_step { to = NOBODY; place = 0; in_epoch = 0 }
    if
    :: UNKNOWN_IS_NOT_LISTED -> attempt++; goto send
    :: else
    fi;
listed_:
    printf("post %d is listed\n", me);
    d_step { listed[me] = 1; nothing_listed_is_gone(i, j, found) }
}

init {
    byte r;
    atomic {
        for (r : 0 .. R - 1) { up[r] = 1 }
        for (r : 0 .. R - 1) { run Broker(r) }
        for (r : 0 .. POSTS - 1) { run Post(r) }
    }
}
