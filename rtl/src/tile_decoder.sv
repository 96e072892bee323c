// Packets of one weight tile (docs/tile-format.md) into parameters and beats of the tile memory, a beat a cycle.
//
// An illegal packet never stops it: beats past the capacity of a tile are taken and dropped.
module tile_decoder #(
    parameter int unsigned OUTPUTS = bertile_pkg::ArrayOutputs
) (
    input  logic                  clk,
    input  logic                  reset,
    input  logic                  start,  // of a tile, while not busy
    output logic                  busy,
    output logic                  done,   // its last beat was taken; `groups` stands
    output logic [15:0]           groups,

    input  logic [OUTPUTS*32-1:0] beat,
    input  logic                  beat_valid,
    output logic                  beat_ready,

    output logic                  parameter_write,
    output logic                  parameter_half,
    output logic [OUTPUTS*32-1:0] parameter_data,

    input  logic                  room,  // in the tile memory, for this beat and one more
    output logic                  weight_write,
    output logic [bertile_pkg::ArrayInputs-1:0][bertile_pkg::PacketIndexBits-1:0] weight_index,
    output logic [OUTPUTS*32-1:0] weight_data,

    output logic                  packet_error
);

  localparam int unsigned Inputs = bertile_pkg::ArrayInputs;
  localparam int unsigned Entries = OUTPUTS * 2;  // of an index beat
  localparam int unsigned CountBits = $clog2(Entries / Inputs + 1);
  localparam int unsigned TileBeats = bertile_pkg::CapacityTileBeats;

  typedef enum logic [2:0] {IDLE, PARAMETERS_LOW, PARAMETERS_HIGH, INDICES, WEIGHTS} state_t;
  state_t state;

  // The beat at hand, and what it would mean as a beat of indices.
  logic [OUTPUTS*32-1:0] held;
  logic held_valid, held_last, held_gap, take;
  logic held_any;  // a valid entry
  logic [3:0][3:0] held_counts;  // of the valid entries, in each quarter of the beat
  logic [CountBits-1:0] held_weight_beats;
  logic [Entries-1:0] valid_entries;

  always_comb begin
    for (int i = 0; i < Entries; i++) valid_entries[i] = beat[16*i+bertile_pkg::PacketValidBit];
    held_weight_beats = CountBits'((6'(held_counts[0]) + 6'(held_counts[1]) + 6'(held_counts[2]) +
                                    6'(held_counts[3]) + 6'(Inputs - 1)) >> $clog2(Inputs));
  end

  function automatic logic [3:0] count(input logic [Entries/4-1:0] bits);
    count = '0;
    for (int i = 0; i < Entries / 4; i++) count = count + 4'(bits[i]);
  endfunction

  assign beat_ready = !held_valid || take;
  assign take = held_valid && state != IDLE && (state != WEIGHTS || room);
  assign busy = state != IDLE;

  always_ff @(posedge clk) begin
    if (beat_ready) begin
      held <= beat;
      for (int q = 0; q < 4; q++) held_counts[q] <= count(valid_entries[Entries/4*q+:Entries/4]);
      held_any <= valid_entries != '0;
      held_gap <= (valid_entries[Entries-1:1] & ~valid_entries[Entries-2:0]) != '0;
      held_last <= beat[bertile_pkg::PacketLastBit];
    end
    if (reset) held_valid <= 1'b0;
    else if (beat_ready) held_valid <= beat_valid;
  end

  logic [CountBits-1:0] beats_left;  // of this packet
  logic last_packet;
  logic [Entries-1:0][bertile_pkg::PacketIndexBits-1:0] indices;  // the next ones first

  always_ff @(posedge clk) begin
    done <= 1'b0;
    packet_error <= 1'b0;
    parameter_write <= 1'b0;
    weight_write <= 1'b0;
    if (reset) begin
      state <= IDLE;
    end else if (state == IDLE) begin
      if (start) state <= PARAMETERS_LOW;
      groups <= '0;
    end else if (take) begin
      case (state)
        PARAMETERS_LOW: begin
          parameter_write <= 1'b1;
          state <= PARAMETERS_HIGH;
        end
        PARAMETERS_HIGH: begin
          parameter_write <= 1'b1;
          state <= INDICES;
        end
        INDICES: begin
          packet_error <= held_gap;
          last_packet <= held_last;
          beats_left <= held_weight_beats;
          if (held_any) begin
            state <= WEIGHTS;
          end else if (held_last) begin
            state <= IDLE;
            done  <= 1'b1;
          end
        end
        default: begin
          beats_left <= beats_left - 1'b1;
          if (groups < 16'(TileBeats)) begin
            weight_write <= 1'b1;
            groups <= groups + 1'b1;
          end else begin
            packet_error <= 1'b1;
          end
          if (beats_left == CountBits'(1)) begin
            state <= last_packet ? IDLE : INDICES;
            done  <= last_packet;
          end
        end
      endcase
    end
  end

  always_ff @(posedge clk) begin
    parameter_half <= state == PARAMETERS_HIGH;
    parameter_data <= held;
    weight_data <= held;
    for (int i = 0; i < Inputs; i++) weight_index[i] <= indices[i];
    if (take) begin
      for (int i = 0; i < Entries; i++) begin
        if (state == INDICES) begin
          indices[i] <= held[16*i+bertile_pkg::PacketValidBit] ? held[16*i+:bertile_pkg::PacketIndexBits] : '0;
        end
        if (state == WEIGHTS) indices[i] <= i + 32'(Inputs) < 32'(Entries) ? indices[(i+Inputs)%Entries] : '0;
      end
    end
  end

endmodule
